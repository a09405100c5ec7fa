/** What the data plane tells of one guest's flows and refusals: to the log, and to the flow log if there is one. */
import { type GuestConfig, isWanted, type OutputSpec } from '../config.ts';
import { type Log, logOf } from '../control/log.ts';
import { RefusalText } from '../control/refusal-text.ts';
import type { FlowReport } from '../engine/messages.ts';
import { FlowLog, refusalOf } from './flow-log.ts';
import { LineOutput } from './line-output.ts';
import { openOutput } from './open-output.ts';
import { RefusalLog } from './refusal-log.ts';

export class FlowWatch {
  readonly #refusals: RefusalLog;
  readonly #flows: FlowLog | null;

  /** `output`: of the flow log. */
  constructor(guest: GuestConfig, logger: Log, output: LineOutput | null) {
    const text = new RefusalText(guest);
    this.#refusals = new RefusalLog(logOf(logger, guest.name), text);
    this.#flows = output === null ? null : new FlowLog(output, text, guest.name);
  }

  receive(event: FlowReport): void {
    switch (event.type) {
      case 'flow':
        this.#flows?.flow(event);
        if (event.failure !== '') this.#refusals.note(refusalOf(event), event.reason);
        return;
      case 'refusal':
        this.#flows?.refusal(event);
        this.#refusals.note(event);
        return;
      case 'refusalsLeftOut':
        this.#refusals.leftOut(event.reason, event.count);
        return;
      case 'flowsLeftOut':
        this.#flows?.leftOut(event.flows);
        return;
      default:
        event satisfies never;
    }
  }
}

/** Where the flow log goes; null: nowhere. @throws Error with one line */
export function flowLogOutput(flowLog: OutputSpec): LineOutput | null {
  return isWanted(flowLog) ? new LineOutput(openOutput('--flow-log', flowLog)) : null;
}
