/** What the data plane tells of flows and refusals: to the log, and to the flow log if there is one. */
import { type Config, isWanted } from '../config.ts';
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

  /** Opens the flow log. @throws Error with one line */
  constructor({ guest, process: { flowLog } }: Config, logger: Log) {
    const text = new RefusalText(guest);
    this.#refusals = new RefusalLog(logOf(logger, guest.name), text);
    const output = isWanted(flowLog) ? new LineOutput(openOutput('--flow-log', flowLog)) : null;
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
