import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NOT_LISTED, type Uploader, WindowShare } from '../../../src/forward/tcp/window-share.ts';

const MIB = 1024 * 1024;

class Flow implements Uploader {
  burstAt = NOT_LISTED;
  over = false;
}

describe('WindowShare', () => {
  it('leaves a flow alone its full window', () => {
    const share = new WindowShare(MIB);
    share.note(new Flow(), 0);
    assert.equal(share.window, MIB);
  });

  it('divides what may lie in the queue among the flows that upload', () => {
    const share = new WindowShare(MIB);
    for (let i = 0; i < 8; i++) share.note(new Flow(), 0);
    assert.equal(share.window, MIB / 8);
  });

  it('counts a flow once, however often it bursts', () => {
    const share = new WindowShare(MIB);
    const flow = new Flow();
    for (let now = 0; now < 1000; now += 10) share.note(flow, now);
    assert.equal(share.window, MIB);
  });

  it('never asks a flow to make do with less than a frame', () => {
    const share = new WindowShare(MIB);
    for (let i = 0; i < 1000; i++) share.note(new Flow(), 0);
    assert.equal(share.window, MIB / 16);
  });

  it('gives the window back when the others have paused, ended, or both', () => {
    const share = new WindowShare(MIB);
    const others = Array.from({ length: 7 }, () => new Flow());
    for (const flow of others) share.note(flow, 0);
    const flow = new Flow();
    share.note(flow, 150);
    others[0]!.over = true;
    share.note(flow, 300);
    assert.equal(share.window, MIB);
    // Those that come back count again.
    for (const other of others) share.note(other, 310);
    assert.equal(share.window, MIB / 8);
  });
});
