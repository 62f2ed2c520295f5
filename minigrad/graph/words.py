"""What explanations say, in English and in Korean, sentence by sentence.

A sentence is looked up and filled in by `say`. After a placeholder a Korean particle depends on the last sound of what
stands there, such as 노드는 but 기울기값은: it is written 은(는), 이(가), 을(를), 과(와) or 으로(로), and chosen then.
"""

from __future__ import annotations

from string import Formatter
from typing import Any

from minigrad.graph.particles import PARTICLE, particle
from minigrad.graph.prose import Code, Formula, Pieces, plain

__all__ = ["LANGUAGES", "SENTENCES", "fill", "joined", "say"]

LANGUAGES = ("en", "ko")

SENTENCES: dict[str, tuple[str, str]] = {
    # What things are called
    "node": ("node {n} ({symbol})", "{n}번 노드({symbol})"),
    "leaf": ("leaf {n}", "{n}번 리프"),
    "constant": ("a constant", "상수"),
    "op node": ("{op} node", "{op} 노드"),
    "op and symbol": ("{op} ({symbol})", "{op} ({symbol})"),
    "unknown": ("not recorded", "기록되지 않음"),
    "array": (
        "an array {shape} (min {low}, mean {mean}, max {high})",
        "형상이 {shape}인 배열(최솟값 {low}, 평균 {mean}, 최댓값 {high})",
    ),
    "array of one value": ("an array {shape}, all {value}", "형상이 {shape}이고 모든 원소가 {value}인 배열"),
    "array not finite": (
        "an array with values that are not finite: {summary}",
        "유한하지 않은 값이 있는 배열({summary})",
    ),
    "array empty": ("an empty array {shape}", "형상이 {shape}인 빈 배열"),
    "is": ("{x} = {value}", "{x} = {value}"),
    "is named": ("{x} = {name} = {value}", "{x} = {name} = {value}"),
    "and": (" and ", ", "),
    # A step forward
    "forward title": ("Forward {i} of {n}: node {node}, {op}", "순전파 {i}/{n}: {node}번 노드, {op}"),
    "forward does": ("The {node} {does}.", "{node}: {does}."),
    "forward computes": ("The {node} computes {formula}.", "{node}: {formula}의 값을 계산합니다."),
    "forward numbers": (
        "With {inputs} the output is {value}.",
        "{inputs}일 때 출력은 {value}입니다.",
    ),
    "forward output": ("The output is {value}.", "출력은 {value}입니다."),
    "forward inputs": ("Here {inputs}.", "입력: {inputs}."),
    "not kept": (
        "Nobody kept the value of {names}: within graph.record() it would be known.",
        "{names}의 값은 저장되지 않았습니다. graph.record() 안에서 계산하면 알 수 있습니다.",
    ),
    "several not kept": (
        "Nobody kept the values of {names}: within graph.record() they would be known.",
        "{names}의 값은 저장되지 않았습니다. graph.record() 안에서 계산하면 알 수 있습니다.",
    ),
    "options": ("Options: {options}.", "옵션: {options}."),
    "made in": ("Made in line {line} of {file}.", "{file} 파일의 {line}번째 줄에서 만들어졌습니다."),
    "made by": ("It belongs to the module {modules}.", "이 노드가 속한 모듈은 {modules}입니다."),
    # A step backward
    "backward title": ("Backward {i} of {n}: node {node}, {op}", "역전파 {i}/{n}: {node}번 노드, {op}"),
    "starts": (
        "Backward starts here, with the derivative of the output with respect to itself: 1.",
        "역전파는 여기서 시작합니다. 출력을 출력 자신으로 미분한 값은 1입니다.",
    ),
    "starts with ones": (
        "Backward starts here. The output has several values, and each of them is given the gradient 1.",
        "역전파는 여기서 시작합니다. 출력의 값이 여러 개이므로 각 값의 미분을 1로 둡니다.",
    ),
    "upstream": ("The upstream gradient is {upstream}.", "상류에서 흘러온 미분은 {upstream}입니다."),
    "upstream sum": (
        "Its output was used {n} times, so that the upstream gradient is a sum: {sum}.",
        "이 노드의 출력은 {n}곳에서 사용되었으므로, 상류에서 흘러온 미분은 모두 더한 값입니다: {sum}.",
    ),
    "upstream sum large": (
        "Its output was used {n} times, so that the upstream gradient is the sum of what came from there: {upstream}.",
        "이 노드의 출력은 {n}곳에서 사용되었으므로, 상류에서 흘러온 미분은 그 {n}개를 모두 더한 값입니다: {upstream}.",
    ),
    "term": (
        "Upstream {upstream} times the local derivative {symbol} = {local} gives {downstream}, which flows down to "
        "{source}.",
        "상류의 {upstream}에 국소적 미분 {symbol} = {local}을(를) 곱한 {downstream}이(가) 하류의 {source}(으)로 "
        "흘러갑니다.",
    ),
    "term number": (
        "Upstream {upstream} times the local derivative {local} gives {downstream}, which flows down to {source}.",
        "상류의 {upstream}에 국소적 미분 {local}을(를) 곱한 {downstream}이(가) 하류의 {source}(으)로 흘러갑니다.",
    ),
    "term large": (
        "Each entry of the upstream gradient is multiplied by its local derivative {symbol}; what flows down to "
        "{source} is {downstream}.",
        "상류에서 흘러온 미분의 원소마다 국소적 미분 {symbol}을(를) 곱합니다. 하류의 {source}(으)로 흘러가는 값은 "
        "{downstream}입니다.",
    ),
    "term large number": (
        "Each entry of the upstream gradient is multiplied by its local derivative; what flows down to {source} is "
        "{downstream}.",
        "상류에서 흘러온 미분의 원소마다 그 원소의 국소적 미분을 곱합니다. 하류의 {source}(으)로 흘러가는 값은 "
        "{downstream}입니다.",
    ),
    "term rule": (
        "By the rule {formula}, what flows down to {source} is {downstream}.",
        "{formula}의 규칙에 따라 하류의 {source}(으)로 흘러가는 값은 {downstream}입니다.",
    ),
    "term words": (
        "What flows down to {source} is {downstream}.",
        "하류의 {source}(으)로 흘러가는 값은 {downstream}입니다.",
    ),
    "stretched": (
        "Forward had stretched {argument} from {small} to {large}, so that the products are summed over what was "
        "stretched.",
        "순전파에서 {argument}의 형상을 {small}에서 {large}(으)로 늘렸으므로, 곱한 값을 늘어난 방향으로 더합니다.",
    ),
    "not selected": (
        "Entries that were not selected later on, by where, clip or an index, have no part in the result: exactly 0 "
        "flows to them, whatever their local derivative is.",
        "뒤에서 where나 clip, 인덱스로 선택되지 않은 원소는 결과에 관여하지 않으므로, 국소적 미분의 값과 상관없이 "
        "정확히 0이 흘러갑니다.",
    ),
    "nothing flows": (
        "No gradient is needed for its input {arguments}.",
        "입력 {arguments}에 대한 미분은 필요하지 않습니다.",
    ),
    "nothing flows to several": (
        "No gradient is needed for its inputs {arguments}.",
        "입력 {arguments}에 대한 미분은 필요하지 않습니다.",
    ),
    "both meet": (
        "Now both gradients of {source} have arrived, and they are added: {sum}.",
        "이로써 {source}에 두 개의 미분이 모두 도착했으며, 이를 더합니다: {sum}.",
    ),
    "both meet large": (
        "Now both gradients of {source} have arrived, and they are added: {total}.",
        "이로써 {source}에 두 개의 미분이 모두 도착했으며, 이를 더하면 {total}입니다.",
    ),
    "meet": (
        "Now all {n} gradients of {source} have arrived, and they are added: {sum}.",
        "이로써 {source}에 {n}개의 미분이 모두 도착했으며, 이를 더합니다: {sum}.",
    ),
    "meet large": (
        "Now all {n} gradients of {source} have arrived, and they are added: {total}.",
        "이로써 {source}에 {n}개의 미분이 모두 도착했으며, 이를 더하면 {total}입니다.",
    ),
    # The frame of a whole explanation
    "title": ("How {output} is computed and differentiated", "{output}의 계산 그래프: 순전파와 역전파"),
    "the output": ("the output", "출력"),
    "counts": (
        "The graph has {n} nodes (ops: {ops}, leaves, which are the tensors that require a gradient: {leaves}, "
        "constants: {constants}). Its output, L, is {value}.",
        "이 계산 그래프의 노드는 모두 {n}개이며, 연산이 {ops}개, 기울기를 구할 텐서(리프)가 {leaves}개, 상수가 "
        "{constants}개입니다. 출력 L의 값은 {value}입니다.",
    ),
    "chain rule": (
        "Forward computes from the inputs to L. Backward goes the other way: each node takes the gradient that comes "
        "from upstream, dout = ∂L/∂out, multiplies it by the local derivative of what it computes, and hands the "
        "products down to its inputs. That is the chain rule, one node at a time.",
        "순전파는 입력에서 출력 L까지 차례로 계산합니다. 역전파는 그 반대 방향입니다. 각 노드는 상류에서 흘러온 미분 "
        "dout = ∂L/∂out에 자신이 한 계산의 국소적 미분을 곱해 하류로 흘려보냅니다. 이것이 노드 하나하나에 적용된 "
        "연쇄법칙입니다.",
    ),
    "numbers": (
        "Numbers are rounded to five digits; arrays of more than {n} values are given by their shape, least, mean and "
        "largest value.",
        "수는 유효숫자 다섯 자리로 반올림했고, 원소가 {n}개보다 많은 배열은 형상과 최솟값, 평균, 최댓값으로 "
        "나타냈습니다.",
    ),
    "no gradients": (
        "The gradients of this graph were not computed, so that only forward can be explained.",
        "이 그래프의 기울기는 계산되지 않았으므로 순전파만 설명합니다.",
    ),
    "a leaf": (
        "L is a leaf: nothing was computed, and its gradient with respect to itself is 1.",
        "L은 리프입니다. 아무 계산도 하지 않았으며, L을 자기 자신으로 미분한 값은 1입니다.",
    ),
    "seeded": (
        "The output has several values; the gradients below are those of their sum.",
        "출력의 값이 여러 개이므로, 아래의 기울기는 그 합을 미분한 값입니다.",
    ),
    "not finite": (
        "The first value that is not finite (nan or inf) comes out of {node}.",
        "유한하지 않은 값(nan 또는 inf)이 처음 나타나는 곳은 {node}입니다.",
    ),
    "gradient not finite": (
        "On the way back, the first gradient that is not finite (nan or inf) comes out of the rule of {node}.",
        "역전파에서 유한하지 않은 미분(nan 또는 inf)을 처음 내보내는 곳은 {node}입니다.",
    ),
    "forward": ("Forward", "순전파"),
    "backward": ("Backward", "역전파"),
    "gradients": ("The gradients", "기울기"),
    "order": ("Why in this order", "왜 이 순서인가"),
    "kept": ("What is kept, and why", "무엇을 왜 저장하는가"),
    "fused": ("One node for several", "여러 노드를 하나로"),
    "heading": ("Node {n}: {op}", "{n}번 노드: {op}"),
    "first of many": (
        "Only the first {shown} of {n} steps are told. The rest are: {rest}.",
        "전체 {n}단계 가운데 처음 {shown}단계만 설명합니다. 나머지는 다음과 같습니다: {rest}.",
    ),
    "times": ("{n} × {op}", "{op} {n}개"),
    "more": ("and {n} more", "그 밖에 {n}개"),
    "leaf's gradient": (
        "{leaf}, which is {value}: the gradient is {gradient}.",
        "{leaf}: 값은 {value}, 기울기는 {gradient}입니다.",
    ),
    "column name": ("leaf", "리프"),
    "column value": ("value", "값"),
    "column gradient": ("gradient ∂L/∂leaf", "기울기 ∂L/∂리프"),
    "column uses": ("used", "쓰인 횟수"),
    # Why this order
    "births": (
        "Every node gets a number when it is made, and it is made after its inputs. Backward visits the ops from the "
        "youngest to the oldest{here}. So a node comes after all nodes that use its output: when its rule "
        "runs, everything that flows back to it has arrived and has been added up. This is a topological order.",
        "노드는 만들어질 때 번호를 받으며, 언제나 자신의 입력보다 나중에 만들어집니다. 역전파는 가장 나중에 만들어진 "
        "연산부터 거꾸로 방문합니다. {here}. 따라서 어떤 노드의 차례가 되면 그 출력을 사용한 "
        "노드들의 역전파는 모두 끝나 있고, 흘러올 미분도 모두 더해져 있습니다. 이를 위상 정렬이라고 합니다.",
    ),
    "here in order": (", here {order}", "여기서는 {order}의 순서입니다"),
    "here alone": ("; here there is only {order}", "여기서는 {order} 하나뿐입니다"),
    "wrong here": (
        "Depth-first, which follows one path to its end before it takes the next and visits each node once, would go "
        "{order}.",
        "깊이 우선으로, 즉 한 경로를 끝까지 따라간 다음에 다른 경로로 가면서 각 노드를 한 번씩 방문하면 {order}의 "
        "순서가 됩니다.",
    ),
    "too early": (
        "Depth-first then runs the rule of {node} when only {partial} of its gradient {whole} has arrived. What "
        "arrives later is lost, and the gradient of {leaf} comes out as {wrong} in place of {right}.",
        "그러면 {node}의 미분 {whole} 가운데 아직 {partial}만 도착한 상태에서 그 노드의 역전파를 계산하게 됩니다. "
        "나중에 도착한 미분은 버려지므로, {leaf}의 기울기는 {right}이(가) 아니라 {wrong}이(가) 되어 버립니다.",
    ),
    "no meeting": (
        "In this graph no op is used by two others, so that depth-first would do as well. A small graph in which it "
        "does not is y = a + exp(a) with a = x × x, here at x = {x}:",
        "이 그래프에는 둘 이상의 노드가 함께 사용하는 연산이 없으므로 깊이 우선으로도 같은 결과를 얻습니다. 깊이 "
        "우선이 틀리는 간단한 예는 y = a + exp(a), a = x × x입니다. x = {x}일 때를 보겠습니다.",
    ),
    "small example": (
        "Why depth-first would not do is seen best on a small graph: y = a + exp(a) with a = x × x, at x = {x}.",
        "깊이 우선이 왜 안 되는지는 간단한 그래프에서 가장 잘 보입니다: y = a + exp(a), a = x × x, x = {x}.",
    ),
    "example order": (
        "By birth: add, exp, multiply. Depth-first: add, then multiply, since a is the first input of the addition, "
        "and exp at last.",
        "만들어진 순서의 역순: add, exp, multiply. 깊이 우선: add 다음에, 덧셈 노드의 첫 입력이 a이므로 multiply, "
        "마지막으로 exp.",
    ),
    # What is kept
    "keeps nothing": (
        "{op} keeps nothing: its derivative contains neither its inputs nor its output.",
        "{op}: 아무것도 저장하지 않습니다. 미분에 입력도 출력도 나타나지 않기 때문입니다.",
    ),
    "keeps shape": (
        "{op} keeps only the shape of {x}, to which its rule brings dout back: {formula}.",
        "{op}: {x}의 형상만 저장합니다. dout을 그 형상으로 되돌리면 되기 때문입니다({formula}).",
    ),
    "keeps shape only": (
        "{op} keeps only the shape of {x}, to which its rule brings dout back.",
        "{op}: {x}의 형상만 저장합니다. dout을 그 형상으로 되돌리면 되기 때문입니다.",
    ),
    "keeps out": (
        "{op} keeps its output, {out}, since the derivative is written in the output: {formula}.",
        "{op}: 출력 {out}을(를) 저장합니다. 미분을 출력으로 나타낼 수 있기 때문입니다({formula}).",
    ),
    "keeps values": (
        "{op} keeps {values}, since the derivative is written in them: {formula}.",
        "{op}: {values}을(를) 저장합니다. 미분의 식에 나타나기 때문입니다({formula}).",
    ),
    "keeps value": (
        "{op} keeps {values}, since the derivative is written in it: {formula}.",
        "{op}: {values}을(를) 저장합니다. 미분의 식에 나타나기 때문입니다({formula}).",
    ),
    "keeps for rule": (
        "{op} keeps {values}, which its rule uses.",
        "{op}: {values}을(를) 저장합니다. 역전파의 규칙이 사용하기 때문입니다.",
    ),
    "keeps slope": (
        "{op} keeps {slope}, the local derivative itself, computed along with forward: {formula}.",
        "{op}: 순전파 때 함께 계산한 국소적 미분 {slope}을(를) 저장합니다({formula}).",
    ),
    "keeps slope not out": (
        "For {op} the book keeps the output, in which the derivative can be written: {formula}. Where out rounds to 1 "
        "that formula gives 0, though the true slope is small but not 0; so {slope} is kept here, the local "
        "derivative itself, computed along with forward, which is right there too.",
        "{op}: 책에서는 출력 out을 저장합니다. 미분을 출력으로 나타낼 수 있기 때문입니다({formula}). 그러나 out이 1로 "
        "반올림되면 이 식의 값은 0이 되어, 작지만 0이 아닌 실제 기울기와 달라집니다. 그래서 여기서는 순전파 때 함께 "
        "정확히 계산한 국소적 미분 {slope}을(를) 저장합니다.",
    ),
    "keeps along": (
        "{op} keeps {along}, which was computed along with forward: {what}.",
        "{op}: 순전파 때 함께 계산한 {along}을(를) 저장합니다. {what}입니다.",
    ),
    "keeps along too": (
        "{op} keeps {values}; {along}, which was computed along with forward, is {what}.",
        "{op}: {values}을(를) 저장합니다. 이 가운데 {along}은(는) 순전파 때 함께 계산한 {what}입니다.",
    ),
    "what residual": (
        "the difference of probabilities and labels, the y\u00a0-\u00a0t of the gradient",
        "확률과 정답의 차분, 즉 기울기의 y\u00a0-\u00a0t",
    ),
    "what is not listed": ("what its rule uses", "역전파의 규칙이 사용하는 값"),
    "what softmax": ("the probabilities", "확률"),
    "what probabilities": ("the weights of the mean", "평균의 가중치"),
    "what statistics": ("mean and variance", "평균과 분산"),
    "what rstd": ("1 over the root mean square", "제곱평균제곱근의 역수"),
    "what factors": ("what the gates multiply by on the way back", "역전파에서 각 게이트가 곱하는 값"),
    "released": (
        "What is kept is released node by node as backward passes.",
        "저장한 값은 역전파가 지나가면서 노드마다 해제됩니다.",
    ),
    # Fused ops
    "fused op": (
        "{op} is one node in place of a graph of small ones, which {path} writes out.",
        "{op}은(는) 작은 노드들로 된 계산 그래프를 하나의 노드로 묶은 것입니다. 풀어 쓴 그래프는 {path}에 있습니다.",
    ),
    "fused keeps nothing between": (
        "Its own rule needs nothing of what that graph has in between.",
        "하나로 묶으면 그 중간 값들은 저장할 필요가 없습니다.",
    ),
    "fused nodes": ("Written out it has {n} nodes: {ops}.", "풀어 쓰면 노드는 {n}개입니다: {ops}."),
    "fused rule": (
        "By the chain rule all of them together come to {formula}.",
        "연쇄법칙으로 이들을 모두 합치면 {formula}입니다.",
    ),
}


def say(key: str, lang: str, **values: Any) -> Pieces:
    """The sentence of this key with values filled in: Pieces, a Formula, a whole number of ours, or, as Code, a text.

    >>> from minigrad.graph.prose import plain
    >>> plain(say("node", "ko", n=3, symbol="exp"))
    '3번 노드(exp)'
    """
    return fill(SENTENCES[key][LANGUAGES.index(lang)], **values)


def fill(sentence: str, **values: Any) -> Pieces:
    """A sentence with its placeholders filled in and its particles chosen."""
    said: list[Any] = []
    for words, name, _, _ in Formatter().parse(sentence):
        found = PARTICLE.match(words) if said else None
        if found:
            words = particle(plain(tuple(said)), found[0]) + words[found.end() :]
        if words:
            said.append(words)
        if name is not None:
            value = values[name]
            if isinstance(value, tuple):
                said.extend(value)
            elif isinstance(value, int):
                said.append(str(value))
            else:
                said.append(value if isinstance(value, Formula) else Code(value))
    return tuple(said)


def joined(parts: list[Pieces], separator: str = ", ", last: str | None = None) -> Pieces:
    """The parts in one, a separator between them; last: another one before the last part.

    >>> joined([("x",), ("y",), ("out",)], last=" and ")
    ('x', ', ', 'y', ' and ', 'out')
    """
    said: list[Any] = []
    for i, part in enumerate(parts):
        if i:
            said.append(separator if last is None or i < len(parts) - 1 else last)
        said += part
    return tuple(said)
