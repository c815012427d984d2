"""Content Credentials (C2PA): a signed manifest inside the video, by c2pa-python (extra `c2pa`). Nothing is fetched."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyberhost_model.errors import InputError, OutputError, ResourceError, need
from cyberhost_model.marks.container import EDITED_SOURCE_TYPE, SOURCE_TYPE, clean, program_version
from cyberhost_model.marks.marked_files import said_by_watermark
from cyberhost_model.marks.run_code import name_of
from cyberhost_model.media.files import written_folder

CERTIFICATE_VARIABLE, KEY_VARIABLE = "CYBERHOST_CERTIFICATE", "CYBERHOST_PRIVATE_KEY"
MIME = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".avi": "video/avi",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".heic": "image/heic",
    ".avif": "image/avif",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
}
RUN_LABEL = "org.cyberhost.run"
"""Label of the assertion that names the run."""
UNTRUSTED = "CyberHost on this machine (untrusted)"
_YEARS = 10
# Nothing is asked of a server: no remote manifest, no revocation list.
_SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}


def available() -> bool:
    """Tell whether the extra is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("c2pa", "cryptography"))


@dataclass(frozen=True)
class Signer:
    """A certificate chain and its private key, PEM, and the name of the signature's algorithm."""

    chain: bytes
    key: bytes
    algorithm: str
    """"es256", "es384", "es512", "ps256" or "ed25519"."""
    local: bool
    """Whether the certificate was made on this machine, and so is trusted by nobody else."""

    def sign(
        self, video: Path, name: str, inputs: Iterable[Path] = (), run: int | None = None, edited: bool = False
    ) -> None:
        """Put a manifest into a video file, MP4 or MOV: made by a trained model, of inputs that had marks.

        name: the title in the manifest. inputs: one that has a manifest or the watermark becomes an ingredient. run:
        the number of the run. edited: it is a filmed video of which the model made a part. Raises OutputError.
        """
        c2pa = need("c2pa", "c2pa")
        action = {"action": "c2pa.created", "digitalSourceType": EDITED_SOURCE_TYPE if edited else SOURCE_TYPE}
        manifest = {
            "claim_generator_info": [{"name": "CyberHost", "version": program_version()}],
            "title": clean(name),
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
                *([] if run is None else [{"label": RUN_LABEL, "data": {"run": name_of(run)}}]),
            ],
        }
        signed = video.with_name(f"signed-{video.name}")
        try:
            c2pa.load_settings(_SETTINGS)
            info = c2pa.C2paSignerInfo(self.algorithm.encode(), self.chain, self.key, None)
            with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest) as builder:
                for path in dict.fromkeys(inputs):
                    mark = said_by_watermark(path)
                    if path.suffix.lower() in MIME and (mark or has_manifest(path)):
                        about = {"title": clean(path.name), "relationship": "inputTo"}
                        if mark:
                            about["description"] = mark
                        with path.open("rb") as stream:
                            builder.add_ingredient(about, MIME[path.suffix.lower()], stream)
                with video.open("rb") as source, signed.open("w+b") as target:
                    builder.sign(signer, MIME[video.suffix.lower()], source, target)
            os.replace(signed, video)
        except c2pa.C2paError as error:
            raise OutputError(
                f"{name}: the video cannot be signed ({_line(error)}); check certificate and key"
            ) from None


def read_manifests(path: Path) -> dict[str, Any] | None:
    """Read the manifests in a file -> c2pa's JSON ("active_manifest", "manifests", "validation_state"), None without.

    Raises ResourceError without the extra, and InputError where a manifest is there and cannot be read.
    """
    c2pa = need("c2pa", "c2pa")
    kind = MIME.get(path.suffix.lower())
    if kind is None:
        return None
    c2pa.load_settings(_SETTINGS)
    try:
        with path.open("rb") as stream:
            reader = c2pa.Reader.try_create(kind, stream)
            if reader is None:
                return None
            with reader:
                return json.loads(reader.json())
    except c2pa.C2paError as error:
        if b"c2pa" not in path.read_bytes():  # a file of another kind than its name says, or a damaged one
            return None
        raise InputError(f"{path}: holds Content Credentials that cannot be read ({_line(error)})") from None


def has_manifest(path: Path) -> bool:
    """Tell whether a manifest is in a file and can be read, valid or not. Raises ResourceError without the extra."""
    try:
        return path.is_file() and read_manifests(path) is not None
    except InputError:
        return False


def open_signer(certificate: Path | None = None, key: Path | None = None) -> Signer:
    """Read certificate chain and key, of files or of the files that environment variables name, or make local ones.

    Raises InputError for files that are no such thing or do not belong together, ResourceError without the extra.
    """
    need("c2pa", "c2pa"), need("cryptography", "c2pa")
    certificate = certificate or _named(CERTIFICATE_VARIABLE)
    key = key or _named(KEY_VARIABLE)
    if (certificate is None) != (key is None):
        raise InputError("a certificate and a private key go together: give --certificate and --private-key")
    if certificate is not None and key is not None:
        return _signer(certificate, key, local=False)
    folder = data_folder() / "credentials"
    if not (folder / "key.pem").is_file():
        _make_local(folder)
    return _signer(folder / "certificate.pem", folder / "key.pem", local=True)


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def data_folder() -> Path:
    """Return the folder for what belongs to the user and not to a cache."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "cyberhost"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/cyberhost"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "cyberhost"


def _signer(certificate: Path, key: Path, local: bool) -> Signer:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    read = {}
    for path, what in ((certificate, "certificate"), (key, "private key")):
        try:
            read[what] = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: the {what} cannot be read ({error.strerror})") from None
    try:
        first = x509.load_pem_x509_certificates(read["certificate"])[0]
    except (ValueError, IndexError):
        raise InputError(f"{certificate}: holds no certificate chain in PEM") from None
    try:
        private = serialization.load_pem_private_key(read["private key"], None)
    except (ValueError, TypeError, ImportError):
        raise InputError(f"{key}: holds no private key in PEM without a password") from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != first.public_key().public_bytes(*form):
        raise InputError(f"{key}: is not the key of the certificate {certificate}")
    algorithm = None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        algorithm = {256: "es256", 384: "es384", 521: "es512"}.get(private.curve.key_size)
    elif isinstance(private, rsa.RSAPrivateKey):
        algorithm = "ps256"
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    if algorithm is None:
        raise InputError(f"{key}: C2PA signs with ECDSA (P-256, P-384, P-521), RSA or Ed25519, not with this key")
    plain = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Signer(read["certificate"], plain, algorithm, local)


def _make_local(folder: Path) -> None:
    """Make a key and a certificate that says it is untrusted; C2PA wants a chain, so an authority of its own signs it.

    The authority's key is thrown away.
    """
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(common: str) -> x509.Name:
        kinds = NameOID
        return x509.Name(
            [x509.NameAttribute(kinds.ORGANIZATION_NAME, "CyberHost"), x509.NameAttribute(kinds.COMMON_NAME, common)]
        )

    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    end = start + datetime.timedelta(days=365 * _YEARS)
    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = name("CyberHost local authority (untrusted)"), name(UNTRUSTED)

    def certificate(of: x509.Name, public: ec.EllipticCurvePublicKey, authority: bool) -> x509.Certificate:
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        usages = x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **usage)
        builder = (
            x509.CertificateBuilder(issuer, of, public, x509.random_serial_number(), start, end)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(usages, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
        )
        if not authority:
            purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])  # one of those that C2PA takes
            builder = builder.add_extension(purpose, critical=False)
        return builder.sign(root, hashes.SHA256())

    chain = (certificate(subject, own.public_key(), False), certificate(issuer, root.public_key(), True))
    pem = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        with written_folder(folder) as made:
            made.chmod(0o700)
            (made / "certificate.pem").write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain))
            handle = os.open(made / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(pem)
    except OutputError:
        if not (folder / "key.pem").is_file():  # else another process made them meanwhile
            raise ResourceError(
                f"{folder}: a local certificate cannot be kept there; check rights, or give --no-c2pa"
            ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
