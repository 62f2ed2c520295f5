"""Settings of the documentation site, which `python3 run.py docs` builds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# One thread in every process: with as many processes as cores, threads of BLAS wait for one another. On 2 cores the
# build used 95 to 112 s of CPU in place of 85, and a page, while others computed too, up to 7 times as long.
# NumPy reads this once, so that it comes before the first import.
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import minigrad

sys.path.insert(0, str(Path(__file__).parent))  # for the extension beside this file

project = "minigrad"
author = "the minigrad developers"
copyright = author
version = release = minigrad.__version__

extensions = ["myst_nb", "pages"]
exclude_patterns = ["_build"]
nitpicky = True
# A name's page is told by the heading above it, and the types of arguments by the docstring.
add_module_names = False
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 88
smartquotes = False

myst_heading_anchors = 4

# Every code cell is run anew. One that raises is a warning, and so ends the build, but not before the other pages have
# been read: all that is wrong shows at once.
nb_execution_mode = "force"
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True
# The scripts of Jupyter's widgets, which no page has, would come from elsewhere.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

html_theme = "furo"
html_title = f"minigrad {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["offline.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_use_index = True
html_search_language = "en-ko"
# Colours with the contrast that WCAG asks for; the ground below them is in site.css.
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
