import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  GreetingReader,
  greeting,
  negotiate,
  readGreeting,
  type Version,
} from '../../src/daemon/handshake.ts';
import { ProtocolFault } from '../../src/daemon/protocol-fault.ts';

function list(text: string): Version[] {
  return text.split(',').map((each) => {
    const [major = 0, minor = 0] = each.split('.').map(Number);
    return { major, minor };
  });
}

describe('handshake of the control protocol', () => {
  it('M-22: the greatest common major, and the smaller minor', () => {
    const table: [string, string, string | undefined][] = [
      ['1.0', '1.0', '1.0'],
      ['1.3', '1.1', '1.1'],
      ['1.3,2.1', '1.1', '1.1'],
      ['1.2,2.0', '2.4', '2.0'],
      ['2.0', '1.9', undefined],
      ['1.2,2.7', '1.5,2.3,3.0', '2.3'],
    ];
    for (const [one, other, expected] of table) {
      const wanted = expected === undefined ? undefined : list(expected)[0];
      assert.deepEqual(negotiate(list(one), list(other)), wanted, `${one} ${other}`);
      assert.deepEqual(negotiate(list(other), list(one)), wanted, `${other} ${one}`);
    }
  });

  it('the line that is sent is read back', () => {
    assert.equal(greeting('stack'), 'tslirp-control stack 1.0\n');
    assert.deepEqual(readGreeting(Buffer.from('tslirp-control stack 1.0,2.4'), 'stack'), list('1.0,2.4'));
  });

  it('M-21: every fault of the line is told with what came, escaped', () => {
    const faults: [string, RegExp][] = [
      ['codervpn embedder 1.0', /got "codervpn embedder 1\.0"; expected "tslirp-control embedder VERSIONS"/],
      ['tslirp-control stack 1.0', /expected the role embedder/],
      ['tslirp-control embedder 1.0,1.1', /ascending versions/],
      ['tslirp-control embedder 2.0,1.0', /ascending versions/],
      ['tslirp-control embedder 0.1', /MAJOR\.MINOR/],
      ['tslirp-control embedder 01.1', /MAJOR\.MINOR/],
      ['tslirp-control embedder 1', /MAJOR\.MINOR/],
      ['tslirp-control embedder 1.0,', /MAJOR\.MINOR/],
      ['tslirp-control embedder', /versions after the role/],
      ['tslirp-control embedder 1.0 ', /versions after the role/],
      ['tslirp-control embedder 1.0\r', /got "tslirp-control embedder 1\.0\\x0d"/],
      ['\x1b[31m\xff', /got "\\x1b\[31m\\xff"/],
      ['', /got ""/],
    ];
    for (const [line, expected] of faults) {
      assert.throws(
        () => new GreetingReader('embedder').push(Buffer.from(`${line}\n`, 'latin1')),
        (error: Error) => error instanceof ProtocolFault && expected.test(error.message),
        line,
      );
    }
  });

  it('M-21: a line has 128 bytes with its newline, and what is shown of one 64', () => {
    const versions = ['1.1000', ...Array.from({ length: 21 }, (_, i) => `${i + 2}.0`)];
    const fits = `tslirp-control embedder ${versions.join(',')}`;
    assert.equal(fits.length, 127);
    assert.notEqual(new GreetingReader('embedder').push(Buffer.from(`${fits}\n`)), undefined);
    for (const tooLong of [`${fits}9\n`, `${fits}9`, 'x'.repeat(4096)]) {
      assert.throws(
        () => new GreetingReader('embedder').push(Buffer.from(tooLong)),
        ({ message }: Error) => /got ".{64}"; expected a line of 128 bytes$/.test(message),
      );
    }
  });

  it('M-23: nothing behind the newline is lost, in pieces of any size', () => {
    const bytes = Buffer.concat([Buffer.from(greeting('stack')), Buffer.from([0, 0, 0, 2, 0x7b, 0x7d])]);
    for (let size = 1; size <= bytes.length; size++) {
      const reader = new GreetingReader('stack');
      const rest: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += size) {
        const chunk = bytes.subarray(at, at + size);
        const behind = reader.versions === undefined ? reader.push(chunk) : chunk;
        if (behind !== undefined) rest.push(behind);
      }
      assert.deepEqual(reader.versions, list('1.0'));
      assert.deepEqual(Buffer.concat(rest), Buffer.from([0, 0, 0, 2, 0x7b, 0x7d]), `pieces of ${size}`);
    }
  });
});
