import { brokerEnd } from '../sandbox/broker.ts';
import { loadAgain } from './load-again.ts';

/**
 * Before an end without a data plane, which else waits for the broker's: as a zombie it would stay where the first process
 * collects none.
 */
export function dismissBroker(): void {
  if (brokerEnd !== null) loadAgain().endBroker(brokerEnd);
}
