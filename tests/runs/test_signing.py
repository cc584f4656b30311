"""Pictures carry signed manifests, where the packages of C2PA are installed."""

import datetime
import json

import numpy as np
import pytest
from PIL import Image

from diffjax.config import ConfigError
from diffjax.runs.signing import SOURCE, algorithm, manifest, signer

c2pa = pytest.importorskip("c2pa", reason="c2pa-python is not installed (extra c2pa)")
x509 = pytest.importorskip("cryptography.x509")


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A certificate for signing documents under a root of its own, with its key, as .pem files."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    place = tmp_path_factory.mktemp("chain")
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    organisation = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "diffjax tests")]
    names = [
        x509.Name([*organisation, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        for name in ("root", "signer")
    ]
    now = datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    made = []
    for i, is_root in ((0, True), (1, False)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[i])
            .issuer_name(names[0])
            .public_key(keys[i].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(is_root, None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **usage
                ),
                critical=True,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(keys[i].public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()),
                critical=False,
            )
        )
        if not is_root:
            for_mail = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(for_mail, critical=False)
        made.append(builder.sign(keys[0], hashes.SHA256()))
    pem = lambda c: c.public_bytes(serialization.Encoding.PEM)
    (place / "cert.pem").write_bytes(pem(made[1]) + pem(made[0]))
    private = keys[1].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (place / "key.pem").write_bytes(private)
    return place / "cert.pem", place / "key.pem"


def seen(path):
    """The active manifest of a picture, and the codes of what is wrong with it."""
    with c2pa.Reader(path) as reader:
        store = json.loads(reader.json())
    wrong = {each["code"] for each in store.get("validation_status", [])}
    return store["manifests"][store["active_manifest"]], wrong


def test_a_picture_says_that_a_model_made_it(chain, tmp_path):
    """Machines could not tell a generated picture, nor that it was changed since."""
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    signer(chain)(path, {"seed": "3", "watermark": "none"})
    found, wrong = seen(path)
    assert wrong <= {"signingCredential.untrusted"}  # the root is known to nobody
    data = {one["label"]: one["data"] for one in found["assertions"]}
    (action,) = data["c2pa.actions.v2"]["actions"]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", SOURCE)
    assert data["io.github.diffjax.sample"] == {"seed": "3", "watermark": "none"}
    assert found["claim_generator_info"][0]["name"] == "diffjax"
    changed = bytearray(path.read_bytes())
    at = changed.index(b"IDAT") + 6
    changed[at] ^= 1
    (tmp_path / "b.png").write_bytes(changed)
    assert "assertion.dataHash.mismatch" in seen(tmp_path / "b.png")[1]
    with Image.open(path) as image:
        assert not np.asarray(image).any()


def test_what_cannot_sign_is_refused(chain, tmp_path):
    """Samples would be computed, and then be unsigned."""
    cert, key = chain
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1())
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    text = other.private_bytes(*pem, serialization.NoEncryption())
    (tmp_path / "other.pem").write_bytes(text)
    (tmp_path / "no.pem").write_text("no key")
    for paths, why in (
        ([cert], "1 files; needs a certificate and a key"),
        ([cert, tmp_path / "none"], "cannot be read"),
        ([cert, tmp_path / "no.pem"], "KEY is no private key"),
        ([tmp_path / "no.pem", key], "the files do not sign"),
        ([cert, tmp_path / "other.pem"], "the files do not sign"),
    ):
        with pytest.raises(ConfigError, match=why):
            signer(paths)


def test_the_algorithm_is_that_of_the_key():
    """A key of another kind would sign wrongly, or not at all."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519

    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    form = (*pem, serialization.NoEncryption())
    for key, name in (
        (ec.generate_private_key(ec.SECP256R1()), "es256"),
        (ec.generate_private_key(ec.SECP384R1()), "es384"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
    ):
        assert algorithm(key.private_bytes(*form)) == name
    with pytest.raises(ValueError, match="known: es256"):
        algorithm(ed448.Ed448PrivateKey.generate().private_bytes(*form))
    assert manifest("a", {})["title"] == "a"
