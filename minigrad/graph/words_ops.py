"""What each op does and what its rule does, in words: English and Korean.

An op that is not listed (a user's own, say) is explained by its formulas alone.
"""

from __future__ import annotations

__all__ = ["DOES", "NODES", "RULES"]

# What to call the node of an op; any other is the "exp node", by its name.
NODES: dict[str, tuple[str, str]] = {
    "add": ("addition node", "덧셈 노드"),
    "subtract": ("subtraction node", "뺄셈 노드"),
    "multiply": ("multiplication node", "곱셈 노드"),
    "divide": ("division node", "나눗셈 노드"),
    "matmul": ("matrix product node", "행렬 곱 노드"),
    "linear": ("affine node", "Affine 노드"),
}

DOES: dict[str, tuple[str, str]] = {
    "absolute": ("takes the absolute value of x", "x의 절댓값을 구합니다"),
    "add": ("adds x and y", "x와 y를 더합니다"),
    "arccos": ("takes the arc cosine of x", "x의 아크코사인을 구합니다"),
    "arcsin": ("takes the arc sine of x", "x의 아크사인을 구합니다"),
    "arctan": ("takes the arc tangent of x", "x의 아크탄젠트를 구합니다"),
    "arctan2": ("takes the angle of the point (y, x)", "점 (y, x)의 각도를 구합니다"),
    "astype": ("gives x another dtype", "x의 자료형(dtype)을 바꿉니다"),
    "avg_pool2d": ("takes the mean of x in each window", "윈도우마다 x의 평균을 구합니다"),
    "batch_norm": (
        "normalises each channel of x over the batch, then scales by weight and shifts by bias",
        "x의 채널마다 미니배치의 평균과 분산으로 정규화한 뒤 weight만큼 확대하고 bias만큼 이동합니다",
    ),
    "broadcast_to": ("stretches x to a larger shape", "브로드캐스트로 x를 더 큰 형상으로 늘립니다"),
    "clip": ("holds x between a_min and a_max", "x를 a_min과 a_max 사이의 값으로 제한합니다"),
    "concatenate": ("puts its inputs one behind the other", "입력들을 차례로 이어 붙입니다"),
    "conv2d": (
        "slides the filters W over x and adds the bias b",
        "필터 W를 x 위에서 움직이며 합성곱을 하고 편향 b를 더합니다",
    ),
    "conv2d_weight": (
        "computes the gradient of a convolution's filters",
        "합성곱에서 필터의 기울기를 계산합니다",
    ),
    "conv_transpose2d": (
        "lays the filters W, weighted by x, over the output and adds the bias b",
        "x를 가중치로 하여 필터 W를 출력 위에 겹쳐 더하고 편향 b를 더합니다(전치 합성곱)",
    ),
    "copy": ("copies x", "x를 복사합니다"),
    "cos": ("takes the cosine of x", "x의 코사인을 구합니다"),
    "cosh": ("takes the hyperbolic cosine of x", "x의 쌍곡코사인을 구합니다"),
    "cumsum": ("adds up x from the first entry to each entry", "x의 첫 원소부터 각 원소까지의 누적 합을 구합니다"),
    "divide": ("divides x by y", "x를 y로 나눕니다"),
    "einsum": (
        "multiplies its inputs and sums, as the subscripts say",
        "첨자 식이 정하는 대로 입력들을 곱하고 더합니다",
    ),
    "embedding": ("takes the row of weight for each index", "각 인덱스에 해당하는 weight의 행을 꺼냅니다"),
    "erf": ("takes the error function of x", "x의 오차 함수 값을 구합니다"),
    "erfc": ("takes 1 - erf(x)", "1 - erf(x)를 구합니다"),
    "exp": ("takes e to the power of x", "e의 x제곱을 구합니다"),
    "expand_dims": ("gives x a new axis of length 1", "x에 길이가 1인 축을 더합니다"),
    "expm1": ("takes exp(x) - 1", "exp(x) - 1을 구합니다"),
    "flip": ("reverses x", "x의 순서를 뒤집습니다"),
    "gelu": ("weighs x by the normal distribution function of x", "x에 표준정규분포의 누적분포함수 값을 곱합니다"),
    "getitem": ("takes the entries of x at an index", "x에서 인덱스로 원소를 꺼냅니다"),
    "gru": ("runs a GRU over all time steps", "모든 시각에 걸쳐 GRU를 계산합니다"),
    "hypot": ("takes sqrt(x² + y²)", "sqrt(x² + y²)를 구합니다"),
    "layer_norm": (
        "normalises each sample of x, then scales by weight and shifts by bias",
        "x의 샘플마다 정규화한 뒤 weight만큼 확대하고 bias만큼 이동합니다",
    ),
    "leaky_relu": (
        "lets x through where it is positive and a small part of it elsewhere",
        "x가 양수이면 그대로, 아니면 작은 비율만 통과시킵니다",
    ),
    "linear": (
        "multiplies x by the weights W, transposed, and adds the bias b",
        "x와 가중치 W의 전치를 행렬 곱하고 편향 b를 더합니다",
    ),
    "log": ("takes the natural logarithm of x", "x의 자연로그를 구합니다"),
    "log1p": ("takes log(1 + x)", "log(1 + x)를 구합니다"),
    "log_sigmoid": ("takes the logarithm of sigmoid(x)", "sigmoid(x)의 로그를 구합니다"),
    "log_softmax": ("takes the logarithm of softmax(x)", "softmax(x)의 로그를 구합니다"),
    "logsumexp": ("takes log(sum(exp(x)))", "log(sum(exp(x)))를 구합니다"),
    "lstm": ("runs an LSTM over all time steps", "모든 시각에 걸쳐 LSTM을 계산합니다"),
    "matmul": ("takes the matrix product of x and y", "x와 y의 행렬 곱을 구합니다"),
    "max": ("takes the largest entry of x", "x의 가장 큰 원소를 구합니다"),
    "max_pool2d": ("takes the largest entry of x in each window", "윈도우마다 x의 최댓값을 구합니다"),
    "maximum": ("takes the larger one of x and y", "x와 y 중 큰 값을 고릅니다"),
    "mean": ("takes the mean of x", "x의 평균을 구합니다"),
    "min": ("takes the smallest entry of x", "x의 가장 작은 원소를 구합니다"),
    "minimum": ("takes the smaller one of x and y", "x와 y 중 작은 값을 고릅니다"),
    "moveaxis": ("moves an axis of x to another place", "x의 축 하나를 다른 위치로 옮깁니다"),
    "multiply": ("multiplies x by y", "x와 y를 곱합니다"),
    "negative": ("changes the sign of x", "x의 부호를 바꿉니다"),
    "norm": ("takes the Euclidean length of x", "x의 유클리드 노름(길이)을 구합니다"),
    "outer": ("multiplies each entry of x by each entry of y", "x의 각 원소와 y의 각 원소를 모두 곱합니다"),
    "pad": ("puts a margin around x", "x의 둘레에 패딩을 덧붙입니다"),
    "power": ("raises x to the power of y", "x의 y제곱을 구합니다"),
    "prod": ("multiplies the entries of x", "x의 원소를 모두 곱합니다"),
    "relu": (
        "lets x through where it is positive and gives 0 elsewhere",
        "x가 양수이면 그대로 통과시키고, 아니면 0을 출력합니다",
    ),
    "repeat": ("repeats each entry of x", "x의 각 원소를 반복합니다"),
    "reshape": ("gives x another shape", "x의 형상을 바꿉니다"),
    "rms_norm": (
        "divides each sample of x by its root mean square, then scales by weight",
        "x의 샘플마다 제곱평균제곱근으로 나눈 뒤 weight만큼 확대합니다",
    ),
    "rnn": ("runs an RNN over all time steps", "모든 시각에 걸쳐 RNN을 계산합니다"),
    "scaled_dot_product_attention": (
        "compares each query with every key and takes the mean of value, weighted by the softmax of the scores",
        "각 query를 모든 key와 비교하고, 그 점수의 softmax를 가중치로 value를 평균합니다",
    ),
    "scatter": ("adds the entries of x into zeros at an index", "0으로 채운 배열의 인덱스 위치에 x의 원소를 더합니다"),
    "setitem": ("writes y into x at an index", "x의 인덱스 위치에 y를 써넣습니다"),
    "sigmoid": ("squeezes x into the range from 0 to 1", "x를 0과 1 사이의 값으로 변환합니다"),
    "sigmoid_binary_cross_entropy": (
        "turns the scores into probabilities with sigmoid and takes their cross-entropy with the targets",
        "점수를 sigmoid로 확률로 바꾸고 정답과의 교차 엔트로피 오차를 구합니다",
    ),
    "silu": ("multiplies x by sigmoid(x)", "x에 sigmoid(x)를 곱합니다"),
    "sin": ("takes the sine of x", "x의 사인을 구합니다"),
    "sinh": ("takes the hyperbolic sine of x", "x의 쌍곡사인을 구합니다"),
    "softmax": ("turns x into probabilities that add up to 1", "x를 합이 1인 확률로 변환합니다"),
    "softmax_cross_entropy": (
        "turns the scores into probabilities with softmax and takes their cross-entropy with the labels",
        "점수를 소프트맥스로 정규화하고 정답 레이블과의 교차 엔트로피 오차를 구합니다",
    ),
    "softplus": ("takes log(1 + exp(x))", "log(1 + exp(x))를 구합니다"),
    "sqrt": ("takes the square root of x", "x의 제곱근을 구합니다"),
    "square": ("squares x", "x를 제곱합니다"),
    "squeeze": ("leaves out axes of length 1", "길이가 1인 축을 없앱니다"),
    "stack": ("puts its inputs side by side along a new axis", "입력들을 새로운 축을 따라 쌓습니다"),
    "std": ("takes the standard deviation of x", "x의 표준편차를 구합니다"),
    "subtract": ("subtracts y from x", "x에서 y를 뺍니다"),
    "sum": ("adds up the entries of x", "x의 원소를 더합니다"),
    "swapaxes": ("exchanges two axes of x", "x의 두 축을 맞바꿉니다"),
    "take_along_axis": ("takes entries of x at indices along an axis", "축을 따라 인덱스로 x의 원소를 꺼냅니다"),
    "tan": ("takes the tangent of x", "x의 탄젠트를 구합니다"),
    "tanh": ("takes the hyperbolic tangent of x", "x의 쌍곡탄젠트를 구합니다"),
    "tensordot": ("multiplies x and y and sums over pairs of axes", "x와 y를 곱하고 짝지은 축을 따라 더합니다"),
    "tile": ("lays x out several times", "x를 여러 번 이어 놓습니다"),
    "trace": ("adds up the diagonal of x", "x의 대각 원소를 더합니다"),
    "transpose": ("puts the axes of x in another order", "x의 축 순서를 바꿉니다(전치)"),
    "var": ("takes the variance of x", "x의 분산을 구합니다"),
    "where": ("takes x where condition holds and y elsewhere", "condition이 참이면 x를, 거짓이면 y를 고릅니다"),
}

RULES: dict[str, tuple[str, str]] = {
    "add": (
        "An addition passes the upstream gradient on to both inputs as it is.",
        "덧셈 노드의 역전파는 상류에서 흘러온 미분을 그대로 두 입력으로 흘려보냅니다.",
    ),
    "subtract": (
        "A subtraction passes the upstream gradient on to x as it is, and to y with its sign changed.",
        "뺄셈 노드의 역전파는 상류에서 흘러온 미분을 x에는 그대로, y에는 부호를 바꾸어 흘려보냅니다.",
    ),
    "multiply": (
        "A multiplication exchanges its inputs: x gets the upstream gradient times y, and y gets it times x.",
        "곱셈 노드의 역전파는 상류에서 흘러온 미분에 순전파 때의 입력을 서로 바꾼 값을 곱하여 하류로 보냅니다.",
    ),
    "divide": (
        "A division multiplies the upstream gradient by 1 / y for x, and by -out / y for y.",
        "나눗셈 노드의 역전파는 상류에서 흘러온 미분에 1 / y를 곱해 x로, -out / y를 곱해 y로 보냅니다.",
    ),
    "exp": (
        "exp is its own derivative, so that the local derivative is the output itself.",
        "exp는 미분해도 자기 자신이므로, 국소적 미분은 순전파의 출력과 같습니다.",
    ),
    "log": (
        "The local derivative of log is 1/x, with the x of forward.",
        "log의 국소적 미분은 순전파 때의 입력으로 계산한 1/x입니다.",
    ),
    "negative": (
        "A change of sign changes the sign of the gradient too.",
        "상류에서 흘러온 미분의 부호를 바꾸어 하류로 보냅니다.",
    ),
    "relu": (
        "Where the input was positive the upstream gradient passes on as it is; elsewhere nothing passes.",
        "순전파 때의 입력이 양수였던 곳에서는 상류의 값을 그대로 흘려보내고, 나머지 곳에서는 아무것도 보내지 않습니다.",
    ),
    "sigmoid": (
        "The local derivative of sigmoid is out × (1 - out): the output alone tells it.",
        "sigmoid의 국소적 미분은 out × (1 - out)으로, 순전파의 출력만으로 계산할 수 있습니다.",
    ),
    "tanh": (
        "The local derivative of tanh is 1 - out²: the output alone tells it.",
        "tanh의 국소적 미분은 1 - out²으로, 순전파의 출력만으로 계산할 수 있습니다.",
    ),
    "matmul": (
        "A matrix product multiplies dout by the other matrix, transposed, in the order in which the shapes fit.",
        "행렬 곱의 역전파는 dout에 다른 쪽 행렬의 전치를, 형상이 맞는 순서로 곱합니다.",
    ),
    "linear": (
        "dx is dout times the weights, dW is dout, transposed, times x, and db is the sum of dout over the batch.",
        "dx는 dout과 가중치의 곱, dW는 dout의 전치와 x의 곱, db는 dout을 배치 방향으로 더한 합입니다.",
    ),
    "sum": (
        "Every entry that was added gets the same upstream gradient: dout is copied to the shape of x.",
        "더해진 모든 원소에 상류의 미분이 똑같이 흘러갑니다. 즉 dout을 x의 형상으로 복제합니다.",
    ),
    "mean": (
        "Every entry gets the same share of the upstream gradient: dout divided by the number of entries.",
        "모든 원소에 상류의 미분이 똑같이 나뉘어 흘러갑니다. 즉 dout을 원소 수로 나눈 값입니다.",
    ),
    "max": (
        "The upstream gradient goes to the largest entry alone; a tie divides it equally.",
        "상류의 미분은 가장 큰 원소로만 흘러갑니다. 가장 큰 원소가 여럿이면 똑같이 나눕니다.",
    ),
    "min": (
        "The upstream gradient goes to the smallest entry alone; a tie divides it equally.",
        "상류의 미분은 가장 작은 원소로만 흘러갑니다. 가장 작은 원소가 여럿이면 똑같이 나눕니다.",
    ),
    "max_pool2d": (
        "The upstream gradient of each window goes to its largest entry alone.",
        "윈도우마다 상류의 미분이 가장 큰 원소로만 흘러갑니다.",
    ),
    "avg_pool2d": (
        "The upstream gradient of each window is shared equally among its entries.",
        "윈도우마다 상류의 미분이 그 안의 원소들에 똑같이 나뉘어 흘러갑니다.",
    ),
    "maximum": (
        "The upstream gradient goes to the larger input; a tie gives half of it to each.",
        "상류의 미분은 더 큰 입력으로 흘러갑니다. 두 입력이 같으면 절반씩 나눕니다.",
    ),
    "minimum": (
        "The upstream gradient goes to the smaller input; a tie gives half of it to each.",
        "상류의 미분은 더 작은 입력으로 흘러갑니다. 두 입력이 같으면 절반씩 나눕니다.",
    ),
    "where": (
        "The upstream gradient goes to the input that was chosen; the other one gets exactly 0.",
        "상류의 미분은 선택된 입력으로만 흘러가고, 다른 입력에는 정확히 0이 흘러갑니다.",
    ),
    "clip": (
        "The upstream gradient goes to x where x is within the bounds, and to the bound that cut it elsewhere.",
        "x가 범위 안에 있으면 상류의 미분은 x로 흘러가고, 잘린 곳에서는 그 경곗값으로 흘러갑니다.",
    ),
    "pad": ("The margin is cut off dout again.", "dout에서 패딩을 다시 잘라 냅니다."),
    "reshape": ("dout gets the shape of x again.", "dout을 x의 형상으로 되돌립니다."),
    "transpose": ("dout gets its axes back in the order of x.", "dout의 축을 x의 순서로 되돌립니다."),
    "broadcast_to": (
        "dout is summed over the axes that were stretched.",
        "늘어난 축을 따라 dout을 더합니다.",
    ),
    "getitem": (
        "dout goes to the entries that were taken; all others get 0.",
        "dout은 꺼낸 원소로 흘러가고, 나머지 원소에는 0이 흘러갑니다.",
    ),
    "concatenate": ("dout is cut where the inputs were joined.", "입력을 이어 붙인 자리에서 dout을 다시 나눕니다."),
    "stack": ("dout is taken apart along the new axis.", "새로운 축을 따라 dout을 다시 나눕니다."),
    "embedding": (
        "dout is added to the rows that were taken; a row taken twice gets both.",
        "dout을 꺼낸 행에 더합니다. 두 번 꺼낸 행에는 둘 다 더해집니다.",
    ),
    "softmax": (
        "All outputs share the sum in the denominator, so that each input gets a part of every dout.",
        "모든 출력이 분모의 합을 함께 쓰므로, 각 입력은 모든 dout의 영향을 받습니다.",
    ),
    "softmax_cross_entropy": (
        "The gradient of softmax with cross-entropy is simply y\u00a0-\u00a0t: the probabilities minus the labels, "
        "divided by the number of samples for the mean.",
        "소프트맥스와 교차 엔트로피 오차를 합치면 역전파의 결과는 y\u00a0-\u00a0t, 즉 확률과 정답 레이블의 차분으로 "
        "깔끔하게 떨어집니다. 평균을 구할 때는 이를 데이터 수로 나눕니다.",
    ),
    "sigmoid_binary_cross_entropy": (
        "The gradient of sigmoid with cross-entropy is simply y\u00a0-\u00a0t: the probabilities minus the targets, "
        "divided by their number for the mean.",
        "시그모이드와 교차 엔트로피 오차를 합치면 역전파의 결과는 y\u00a0-\u00a0t, 즉 확률과 정답의 차분으로 깔끔하게 "
        "떨어집니다. 평균을 구할 때는 이를 개수로 나눕니다.",
    ),
}
