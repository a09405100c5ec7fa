import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UnknownType } from '../../src/daemon/channel.ts';
import { checkRequest } from '../../src/daemon/requests.ts';
import { TslirpError } from '../../src/embed/errors.ts';

describe('requests of the control protocol', () => {
  it('what is right is taken, and unknown fields are ignored', () => {
    const fine: [string, object][] = [
      ['start', { config: { link: { fd: 7 } } }],
      [
        'start',
        {
          config: { link: { fd: 7, medium: 'ip', new: 1 }, forwards: ['tcp:80:1.2.3.4:80'], later: {} },
          x: 1,
        },
      ],
      ['start', { config: { link: { passed: 0 }, policy: { routing: true, allow: ['10.0.0.0/8'] } } }],
      ['start', { config: { link: { spec: 'qemu:unix:/x' }, autoForward: false } }],
      ['stop', {}],
      ['stop', { tunnel: 't1', graceMs: 100 }],
      ['flows', { tunnel: 't12', next: 500, filter: { protocol: 'tcp' } }],
      ['forward.add', { tunnel: 't1', forward: { local: 'tcp://80' } }],
      ['forward.remove', { tunnel: 't1', forward: 3 }],
      ['policy.set', { tunnel: 't1', policy: {}, revoke: true }],
      ['settings.update', { tunnel: 't1', diff: { mtu: 1280 } }],
      ['wake', {}],
      ['subscribe', { types: ['state'] }],
      ['ping', { anything: [] }],
    ];
    for (const [type, fields] of fine) assert.doesNotThrow(() => checkRequest(type, { ...fields }), type);
  });

  it('what is wrong is BAD_CONFIG, and names the field', () => {
    const faults: [string, object, string][] = [
      ['start', {}, 'config'],
      ['start', { config: 7 }, 'config'],
      ['start', { config: {} }, 'link'],
      ['start', { config: { link: { fd: -1 } } }, 'link.fd'],
      ['start', { config: { link: { fd: '7' } } }, 'link.fd'],
      ['start', { config: { link: { fd: 7, framing: 'le32' } } }, 'link.framing'],
      ['start', { config: { link: { passed: 16 } } }, 'link.passed'],
      ['start', { config: { link: { fd: 7 }, mtu: 65536 } }, 'mtu'],
      ['start', { config: { link: { fd: 7 }, policy: { allow: [7] } } }, 'policy.allow.0'],
      ['start', { config: { link: { fd: 7 }, forwards: ['80', 80] } }, 'forwards.1'],
      ['start', { config: { link: { fd: 7 }, addresses: { guest: [] } } }, 'addresses.gateway'],
      ['stop', { tunnel: 't0' }, 'tunnel'],
      ['stop', { graceMs: 1.5 }, 'graceMs'],
      ['status', {}, 'tunnel'],
      ['forward.remove', { tunnel: 't1' }, 'forward'],
      ['settings.update', { tunnel: 't1', diff: { dns: { servers: [] } } }, 'diff.dns.search'],
      ['subscribe', { types: 'state' }, 'types'],
    ];
    for (const [type, fields, path] of faults)
      assert.throws(
        () => checkRequest(type, { ...fields }),
        (error: TslirpError) => {
          assert.ok(error instanceof TslirpError);
          assert.equal(error.code, 'BAD_CONFIG');
          assert.equal(error.detail?.['path'], path);
          return true;
        },
        `${type} ${JSON.stringify(fields)}`,
      );
  });

  it('what nobody knows is UNKNOWN_TYPE, whatever it is called', () => {
    for (const type of ['', 'stopp', 'toString', '__proto__'])
      assert.throws(
        () => checkRequest(type, {}),
        (error: UnknownType) => error instanceof UnknownType && error.code === 'UNKNOWN_TYPE',
      );
  });
});
