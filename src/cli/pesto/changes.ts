/** What the steps of a command line are to whoever keeps the rules. */
import type { PortScope } from '../../config.ts';
import type { RuleChange } from '../../expose/rule-watch.ts';
import { type PortOption, parsePortSpec } from '../pasta/port-spec.ts';
import type { Step } from './options.ts';

function tableOf(option: PortOption): RuleChange['table'] {
  return option === 't' || option === 'u' ? 'host' : 'splice';
}

/** @throws PortSpecError */
export function changesOf(steps: readonly Step[], scope: PortScope): RuleChange[] {
  const changes: RuleChange[] = [];
  const replaced = new Set<RuleChange['table']>();
  for (const step of steps) {
    if (step.kind === 'clear') {
      changes.push({ kind: 'clear', table: step.table === 'HOST' ? 'host' : 'splice' });
      continue;
    }
    const { manner, option, spec } = step;
    const table = tableOf(option);
    // What was there goes once, before the first.
    if (manner === 'replace' && !replaced.has(table)) {
      replaced.add(table);
      changes.push({ kind: 'clear', table });
    }
    if (spec === 'none') continue;
    const rules = parsePortSpec(option, spec, scope);
    changes.push({ kind: manner === 'delete' ? 'delete' : 'add', table, rules });
  }
  return changes;
}
