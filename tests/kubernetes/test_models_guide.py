"""What docs/models.md does by kubectl."""

from __future__ import annotations

import os
from pathlib import Path

import guide
import yaml
from cluster_operator import ClusterOperator
from guide import Bash
from narrow import there

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def test_its_document_becomes_a_deployment_with_the_code(
    operator: ClusterOperator, tmp_path: Path
) -> None:
    blocks = guide.blocks(TEXT)
    documents = [block for block in blocks if block.language == "yaml"]
    [script] = [block.text for block in blocks if block.language == "sh"]
    file = tmp_path / str(documents[-1].file)
    file.parent.mkdir()
    first = yaml.safe_load(documents[0].text)
    file.write_text(yaml.safe_dump(guide.document(documents[-1], first)))
    operator.start()
    with Bash(os.environ, tmp_path) as bash:
        bash.run(f'kubectl() {{ command kubectl --namespace {operator.namespace} "$@"; }}')
        assert "shout-volume" in bash.run(script)
    operator.until_reason("ScaledToZero", name="shout-volume")
    found = operator.apps.read_namespaced_deployment("shout-volume-runner", operator.namespace)
    pod = there(there(found.spec).template.spec)
    volumes = there(pod.volumes)
    [claim] = [volume.persistent_volume_claim for volume in volumes if volume.name == "source"]
    assert there(claim).claim_name == "code"
    assert there(pod.containers[0].resources).limits == {"memory": "2Gi"}
