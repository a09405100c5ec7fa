/** What the data plane tells of flows and refusals: to the log, and to the flow log if there is one. */
import type { Config, FlowLogSpec } from '../config.ts';
import { errnoTextOf } from '../control/errno-text.ts';
import { type Log, logOf } from '../control/log.ts';
import { RefusalText } from '../control/refusal-text.ts';
import type { FlowReport } from '../engine/messages.ts';
import { FlowLog, openFlowLog, refusalOf } from './flow-log.ts';
import { LineOutput } from './line-output.ts';
import { RefusalLog } from './refusal-log.ts';

export class FlowWatch {
  readonly #refusals: RefusalLog;
  readonly #flows: FlowLog | null;

  /** Opens the flow log. @throws Error with one line */
  constructor({ guest, process: { flowLog } }: Config, logger: Log) {
    const text = new RefusalText(guest);
    this.#refusals = new RefusalLog(logOf(logger, guest.name), text);
    const output = openOutput(flowLog);
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

function openOutput({ path, fd }: FlowLogSpec): LineOutput | null {
  if (fd >= 0) return new LineOutput(fd);
  if (path === '') return null;
  try {
    return openFlowLog(path);
  } catch (error) {
    const isUnread = (error as NodeJS.ErrnoException).code === 'ENXIO';
    throw new Error(
      `option --flow-log: ${path} cannot be opened: ${isUnread ? 'nobody reads this pipe' : errnoTextOf(error)}`,
      { cause: error },
    );
  }
}
