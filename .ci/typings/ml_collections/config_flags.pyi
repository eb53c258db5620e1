from typing import Any

from ml_collections import ConfigDict

def DEFINE_config_dict(name: str, config: ConfigDict, **options: Any) -> Any: ...
