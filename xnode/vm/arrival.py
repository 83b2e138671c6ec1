"""What a running spare's guest is told when it is leased: its name, who may log in now, that its disk has grown.

POSIX sh, for every guest that our kernel boots; run again after a crash it changes nothing more. The consumer's key
takes the place of the key with which the provider got in, in one rename; the connection that runs this outlives it.
As few programs as can be: each is tens of milliseconds under emulation. A guest without /etc/hostname lives in memory.
"""

import shlex

from xnode.core.machine import MachineSpec, machine_name
from xnode.core.values import PublicKey
from xnode.vm import ssh_keys

_SCRIPT = """
set -e; umask 077
read -r old </proc/sys/kernel/hostname; new={name}
echo "$new" >/proc/sys/kernel/hostname
{grow}
cd /root/.ssh
printf '%s\\n' {keys} >arriving; mv arriving authorized_keys
if [ -e /etc/hostname ]; then
  echo "$new" >/etc/hostname; chmod 644 /etc/hostname
  sed -i "s/$old/$new/g" /etc/hosts
  sync
fi
"""
_GROW = "resize2fs /dev/vda >/dev/null 2>&1"


def script(spec: MachineSpec, provider_key: PublicKey, *, has_grown: bool) -> str:
    """`provider_key` is the new one; `spec` the lease's."""
    keys = (shlex.quote(ssh_keys.public_line(key)) for key in (spec.access_key, provider_key))
    grow = _GROW if has_grown else ":"
    return _SCRIPT.format(name=machine_name(spec.lease_hash), grow=grow, keys=" ".join(keys))
