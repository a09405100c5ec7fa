/** Lines of the event stream against the schema that readers are given. */
import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { projectPath } from './program-path.ts';

const ajv = new Ajv2020({ strict: false });
const validate = ajv.compile(
  JSON.parse(readFileSync(projectPath('docs/events.schema.json'), 'utf8')) as object,
);

/** What is wrong with it: nothing, if all is well. */
export function schemaFaults(line: unknown): string[] {
  return validate(line) ? [] : [ajv.errorsText(validate.errors)];
}
