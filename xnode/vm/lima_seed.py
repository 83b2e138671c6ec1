"""The script by which a Lima guest gets the lease's host key, the keys that may log in as root, and its name.

Lima itself knows neither. It goes in on the standard input of `limactl shell ... sudo sh`, at every start, and changes
nothing where it was run before. Pure; for any guest with OpenSSH 8 or later. What the consumer keeps in
/root/.ssh/authorized_keys stays theirs.
"""

from typing import Final

from xnode.core.machine import MachineSpec, machine_name
from xnode.core.values import PublicKey
from xnode.vm import ssh_keys

_SCRIPT: Final = """\
set -eu
umask 077
mkdir -p /etc/ssh/sshd_config.d
cat >/etc/ssh/xnode_host_key.new <<'END'
{host_key}END
cat >/etc/ssh/xnode_logins.new <<'END'
{logins}END
cat >/etc/ssh/sshd_config.d/00-xnode.conf.new <<'END'
HostKey /etc/ssh/xnode_host_key
AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/xnode_logins
PermitRootLogin prohibit-password
PasswordAuthentication no
END
changed=
for file in /etc/ssh/xnode_host_key /etc/ssh/xnode_logins /etc/ssh/sshd_config.d/00-xnode.conf; do
  if cmp -s "$file.new" "$file"; then rm "$file.new"; else mv "$file.new" "$file"; changed=yes; fi
done
hostname {name}
echo {name} >/etc/hostname
[ "$changed" ] || exit 0
if command -v systemctl >/dev/null; then systemctl restart ssh 2>/dev/null || systemctl restart sshd
else kill -HUP "$(cat /run/sshd.pid)"; fi
"""


def seed_script(spec: MachineSpec, provider_key: PublicKey, host_seed: bytes) -> str:
    """It holds the host's private key, so it may be in no argument, log or file that others read."""
    host_key = ssh_keys.openssh_private(host_seed, _check_bytes)
    logins = "".join(ssh_keys.public_line(key) + "\n" for key in (spec.access_key, provider_key))
    return _SCRIPT.format(host_key=host_key, logins=logins, name=machine_name(spec.lease_hash))


def _check_bytes(count: int) -> bytes:
    """No secret; equal ones each time, so that the file is the same each time."""
    return bytes(count)
