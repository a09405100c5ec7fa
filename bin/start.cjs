// `node bin/NAME`: starts again as a shell does, in the same process and with the same Node. Where that cannot be done, what
// needs no help from outside still works.
const { existsSync } = require('node:fs');
const { join } = require('node:path');

module.exports = (name) => {
  const bundle = join(__dirname, '..', 'dist', 'bundle');
  const main = join(bundle, `${name}.cjs`);
  if (!existsSync(main)) {
    process.stderr.write(`${process.argv[1]}: ${main} is missing: build it with \`npm run build\`\n`);
    process.exit(127);
  }
  const { inheritedDescriptors, startAgain } = require(join(bundle, 'again.cjs'));
  startAgain({
    program: process.argv[1],
    args: process.argv.slice(2),
    environment: process.env,
    restoring: [],
    broker: null,
    inherited: inheritedDescriptors(),
  });
  require(main);
};
