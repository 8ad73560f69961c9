"""Only where optimum-habana is installed: `tests/real/test_gaudi.py` makes such an environment."""

import importlib.util

if importlib.util.find_spec("optimum") is None:
    collect_ignore = ["test_contract.py"]
