// Writes dist/request-checks.cjs: a function for each request of docs/control.schema.json, which says whether its fields are
// as they should be. Made here because reading the schema and compiling that takes a quarter of a second.
import { readFileSync, writeFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import standalone from 'ajv/dist/standalone/index.js';

const schema = JSON.parse(readFileSync(new URL('../docs/control.schema.json', import.meta.url), 'utf8'));
const ajv = new Ajv2020({ strict: false, code: { source: true } });
ajv.addSchema(schema);
const names = schema.$defs.request.oneOf.flatMap(({ $ref }) => $ref?.split('/').at(-1) ?? []);
const checks = Object.fromEntries(names.map((name) => [name, `${schema.$id}#/$defs/${name}`]));
const code = standalone.default(ajv, checks);
writeFileSync(new URL('../dist/request-checks.cjs', import.meta.url), code);
