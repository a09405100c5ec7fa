import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configuration } from '../../../src/cli/slirpnetstack/configuration.ts';
import { parseOptions } from '../../../src/cli/slirpnetstack/options.ts';
import { Policy, Protocol, Verdict } from '../../../src/firewall/verdict.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';

async function verdict(address: string, ...flags: string[]): Promise<Verdict> {
  const { policy } = configuration(await parseOptions(flags)).guest;
  return new Policy(policy).verdict(Protocol.Tcp, parseIpAddress(address), 80);
}

test('review OP-7: the NAT64 prefix is on its list of closed ranges, and opens as others do', async () => {
  assert.equal(await verdict('8.8.8.8', '-enable-routing'), Verdict.Permit);
  assert.equal(await verdict('64:ff9b::8.8.8.8', '-enable-routing'), Verdict.DenyReserved);
  assert.equal(await verdict('64:ff9b::8.8.8.8', '-enable-routing', '-allow=[64:ff9b::]/96'), Verdict.Permit);
});
