"""Weights from elsewhere, each from a small file in its real format."""

import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets import ResNetFeatures, ViT, resnet10
from safetensors.torch import save_file

from medmm.encoders.image_networks import ImageNetwork, build_image_network
from medmm.errors import UsageError
from medmm.importers import import_hugging_face, import_medicalnet, import_monai_bundle

SIZE_3D = (8, 16, 16)


@pytest.fixture
def network() -> ImageNetwork:
    return build_image_network("resnet10", SIZE_3D).eval()


def medicalnet(path: Path, seed: int = 1) -> ResNetFeatures:
    """A checkpoint as MedicalNet writes it: a DataParallel state under `state_dict`, in 3D, without a classifier."""
    torch.manual_seed(seed)
    source = ResNetFeatures("resnet10", pretrained=False, spatial_dims=3, in_channels=1).eval()
    state = {f"module.{name}": value for name, value in source.state_dict().items()}
    torch.save({"epoch": 1, "batch_id": 0, "state_dict": state}, path)
    return source


def bundle(folder: Path) -> torch.nn.Module:
    """A MONAI bundle of a classifier, with a configuration that would execute code if anybody evaluated it."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    torch.manual_seed(2)
    source = resnet10(spatial_dims=3, n_input_channels=1, num_classes=2, conv1_t_stride=2, bias_downsample=False).eval()
    torch.save(source.state_dict(), folder / "models" / "model.pt")
    metadata = {"version": "0.2.1", "task": "a classification", "authors": "somebody", "network_data_format": {}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    evil = {"network": "$__import__('pathlib').Path('executed').touch()"}
    (folder / "configs" / "inference.json").write_text(json.dumps(evil))
    return source


def test_a_medicalnet_checkpoint_gives_the_maps_of_its_network(tmp_path: Path, network: ImageNetwork) -> None:
    source = medicalnet(tmp_path / "resnet_10.pth")
    volume = torch.randn(1, 1, *SIZE_3D)

    imported = import_medicalnet(tmp_path / "resnet_10.pth", network)

    assert imported.left_over == ()
    torch.testing.assert_close(network(volume), source(volume)[-1])


def test_a_monai_bundle_gives_weights_and_metadata_and_runs_nothing(
    tmp_path: Path, network: ImageNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = bundle(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)

    imported = import_monai_bundle(tmp_path / "bundle", network)

    assert imported.about == {"version": "0.2.1", "task": "a classification", "authors": "somebody"}
    assert imported.left_over == ("fc.bias", "fc.weight")
    torch.testing.assert_close(network.body.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
    assert not (tmp_path / "executed").exists()


def test_a_hugging_face_directory_of_colour_weights_sees_grey_pictures_alike(tmp_path: Path) -> None:
    torch.manual_seed(3)
    source = ResNetFeatures("resnet10", pretrained=False, spatial_dims=2, in_channels=3).eval()
    save_file(
        {f"backbone.{name}": value for name, value in source.state_dict().items()}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text('{"model_type": "resnet", "architectures": ["X"]}')
    network = build_image_network("resnet10", (32, 32)).eval()
    picture = torch.randn(1, 1, 32, 32)

    imported = import_hugging_face(tmp_path, network)

    assert imported.about["model_type"] == "resnet"
    torch.testing.assert_close(network(picture), source(picture.expand(-1, 3, -1, -1))[-1], rtol=1e-3, atol=1e-4)


def test_a_vision_transformer_of_another_size_is_refused(tmp_path: Path) -> None:
    other = ViT(
        in_channels=1, img_size=(64, 64), patch_size=(16, 16), hidden_size=192, mlp_dim=768, num_heads=3, spatial_dims=2
    )
    save_file(other.state_dict(), tmp_path / "model.safetensors")

    with pytest.raises(UsageError, match=r"position_embeddings as \(1, 4, 192\)"):
        import_hugging_face(tmp_path, build_image_network("vit-tiny", (32, 32)))


def test_weights_for_another_network_are_refused(tmp_path: Path) -> None:
    medicalnet(tmp_path / "a.pth")

    with pytest.raises(UsageError, match="every tensor of the network") as caught:
        import_medicalnet(tmp_path / "a.pth", build_image_network("vit-tiny", (32, 32)))

    assert caught.value.code == "model.mismatch"


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_a_checkpoint_with_code_is_refused_unread(
    tmp_path: Path, network: ImageNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "extra": Evil()}, tmp_path / "a.pth")

    with pytest.raises(UsageError, match="can execute code") as caught:
        import_medicalnet(tmp_path / "a.pth", network)

    assert caught.value.code == "model.unsafe"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_broken_file_is_refused(tmp_path: Path, network: ImageNetwork, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)

    with pytest.raises(UsageError):
        import_medicalnet(tmp_path / "a.pth", network)


def test_a_bundle_without_weights_is_refused(tmp_path: Path, network: ImageNetwork) -> None:
    with pytest.raises(UsageError, match="one of them is missing"):
        import_monai_bundle(tmp_path, network)
