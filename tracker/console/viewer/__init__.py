"""The screen of `tracker watch`: keys change its state, and a state and what is known are drawn.

`state` and `draw` are functions of plain data; `terminal` alone touches the terminal.
"""
