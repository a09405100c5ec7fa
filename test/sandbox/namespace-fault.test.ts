import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, test } from 'node:test';
import { explainNamespaceFault } from '../../src/sandbox/namespace-fault.ts';

const { EINVAL, ENOENT, ENOSPC, EPERM } = constants.errno;

function explained(fault: string, settings: Record<string, string> = {}): string {
  return explainNamespaceFault(fault, (name) => settings[name] ?? '');
}

describe('review OP-14, ON-7: why a command gets no namespaces', () => {
  test('a limit: which, and its value', () => {
    const text = explained(`user ${ENOSPC}`, { 'user.max_user_namespaces': '0' });
    assert.match(
      text,
      /^no user namespace .*user\.max_user_namespaces allows \(0\).*sysctl user\.max_user_namespaces=N/,
    );
    assert.match(explained(`net ${ENOSPC}`), /^no network namespace .*user\.max_net_namespaces/);
  });

  test('a switch of the distribution: which, and what allows it', () => {
    const debian = explained(`user ${EPERM}`, { 'kernel.unprivileged_userns_clone': '0' });
    assert.match(debian, /unprivileged_userns_clone is 0; root can allow them \(sysctl kernel\.[a-z_]+=1\)$/);
    const ubuntu = explained(`mnt ${EPERM}`, { 'kernel.apparmor_restrict_unprivileged_userns': '1' });
    assert.match(
      ubuntu,
      /apparmor_restrict_unprivileged_userns is 1; root can allow them \(sysctl kernel\.[a-z_]+=0\)$/,
    );
  });

  test('anything else that forbids, a kernel without, no shell, an end without a word', () => {
    const forbidden = explained(`user ${EPERM}`, { 'kernel.unprivileged_userns_clone': '1' });
    assert.match(forbidden, /\(EPERM\): .*seccomp/);
    assert.match(explained(`user ${EINVAL}`), /CONFIG_USER_NS/);
    assert.match(explained(`exec ${ENOENT}`), /^sh cannot be started .*ENOENT$/);
    assert.match(explained(''), /has ended/);
  });

  test('without a reader, the settings of this system', () => {
    assert.match(explainNamespaceFault(`user ${ENOSPC}`), /allows \(\d+\)/);
  });
});
