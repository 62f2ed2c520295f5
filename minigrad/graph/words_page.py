"""What the page says around its steps: English and Korean."""

from __future__ import annotations

__all__ = ["WORDS"]

WORDS: dict[str, tuple[str, str]] = {
    "title": ("Step by step: {output}", "계산 그래프 한 단계씩: {output}"),
    "picture": (
        "The computation graph, {n} nodes from left to right. The steps say in words what it shows.",
        "노드 {n}개로 된 계산 그래프. 그림의 내용은 각 단계에서 글로 설명합니다.",
    ),
    "current": ("This step", "현재 단계"),
    "controls": ("Steps", "단계 이동"),
    "slider": ("Step", "단계"),
    "place": ("Step {i} of {n}", "{n}단계 중 {i}단계"),
    "begin": ("Beginning", "시작"),
    "first": ("To the beginning", "처음으로"),
    "back": ("Back", "이전"),
    "next": ("Next", "다음"),
    "end": ("To the end", "끝으로"),
    "play": ("Play", "자동 재생"),
    "all": ("Show all numbers", "모든 값 보기"),
    "tools": ("Picture", "그림 도구"),
    "zoom": ("Picture, to scroll", "그림(스크롤할 수 있음)"),
    "zoom_in": ("Larger", "크게"),
    "zoom_out": ("Smaller", "작게"),
    "zoom_fit": ("Fit the picture to the page", "화면에 맞추기"),
    "keys": (
        "Keys: → or space for the next step, ← for the one before, Home and End. A click on a node goes to its step.",
        "키보드: → 또는 스페이스 바는 다음 단계, ←는 이전 단계, Home은 처음, End는 끝. 노드를 누르면 그 단계로 갑니다.",
    ),
    "list": ("All steps as a list", "모든 단계 목록"),
    "noscript": (
        "Without JavaScript the steps cannot be shown one by one; all of them are listed below.",
        "자바스크립트를 쓸 수 없어 한 단계씩 볼 수 없습니다. 아래 목록에 모든 단계가 있습니다.",
    ),
    "start": (
        "These values are given. Forward goes from left to right and computes a value at each node; backward then goes "
        "from right to left, and each node multiplies the gradient from upstream by its local derivative.",
        "주어진 값은 다음과 같습니다. 순전파는 왼쪽에서 오른쪽으로 가며 노드마다 값을 계산합니다. 그다음 역전파는 "
        "오른쪽에서 왼쪽으로 가며 노드마다 상류에서 흘러온 미분에 국소적 미분을 곱합니다.",
    ),
    "done": ("Done: the gradients", "끝: 기울기"),
    "done words": (
        "Backward has reached every leaf. These are the derivatives of the output with respect to each of them.",
        "역전파가 모든 리프에 도착했습니다. 출력을 각 리프로 미분한 값은 다음과 같습니다.",
    ),
    "done no gradients": (
        "Forward has reached the output. The gradients of this graph were not computed.",
        "순전파가 출력에 도착했습니다. 이 그래프의 기울기는 계산되지 않았습니다.",
    ),
    "upstream": ("upstream gradient", "상류에서 흘러온 미분"),
    "local": ("local derivative", "국소적 미분"),
    "downstream": ("downstream gradient, to {source}", "하류로 흘러가는 미분 → {source}"),
    "summed": ("summed =", "더하면 ="),
    "gradient of": ("gradient of {name}", "{name}의 기울기"),
    "shown": ("The page is in {path}.", "페이지를 {path} 파일에 저장했습니다."),
    "not shown": (
        "The page is in {path}. No browser can be opened from here: open the file in one.",
        "페이지를 {path} 파일에 저장했습니다. 여기서는 브라우저를 열 수 없으니, 브라우저에서 이 파일을 여십시오.",
    ),
}
