"""``flowsim certify`` and ``flowsim verify``: proofs as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowsim.config_certificate import CertifyConfig, VerifyConfig


def certify(config: CertifyConfig) -> bool:
    """Write the certificate of a run's end; return whether there is one."""
    from flowsim.certificates.certificate import statement
    from flowsim.certificates.certify import certify as prove

    path = config.output or config.path.with_name("certificate.json")
    found = prove(config.path)
    if not found.proved:
        remedy = f" Remedy: {found.remedy}." if found.remedy else ""
        old = f" ({path} is of an earlier run.)" if path.exists() else ""
        print(f"NOT PROVED: {found.reason}.{remedy}{old}")
        return False
    found.save(path)
    leave = f" They leave near t = {found.escape_time:.4g} (predicted)."
    escape = leave if found.quantities["removed"] else ""
    print(f"PROVED: {statement(found)}{escape}\n\nFiles\n  {path}")
    return True


def verify(config: VerifyConfig) -> bool:
    """Prove a certificate again and say what it proves, or what fails."""
    from flowsim.certificates.verify import verify as prove_again

    found = prove_again(config.path)
    print(found.message)
    return found.proved
