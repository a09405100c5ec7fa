/**
 * getopt_long(3) of the GNU C library, as far as slirp4netns and pasta use it: options and arguments in any order, or options
 * up to the first argument; short options bundled (`-c6`, `-e3`), long ones abbreviated as far as they stay unambiguous, `--`
 * as the end of options, and its error texts letter for letter. The libraries for command lines know no abbreviations and say
 * things in their own words.
 *
 * Left out: the variable POSIXLY_CORRECT, optional arguments, single-dash long options: nothing here has them.
 */

/** One option; `long` without dashes, `short` one letter or empty. */
export interface OptionRule {
  readonly long: string;
  readonly short: string;
  readonly hasArgument: boolean;
  /** The original has no such option: its abbreviations mean what they meant without it. */
  readonly exactOnly?: boolean;
}

export interface Found<R extends OptionRule> {
  readonly rule: R;
  /** Empty when the option has none. */
  readonly argument: string;
}

/** The command line breaks off here; the message is the C library's, with the program's name in front. */
export class GetoptError extends Error {
  override readonly name = 'GetoptError';
}

/** Reads an argument vector (without the program's name) one option at a time. */
export class Getopt<R extends OptionRule> {
  /** Arguments that are no options, in order; complete when `next` has returned undefined. */
  readonly operands: string[] = [];
  private readonly program: string;
  private readonly rules: readonly R[];
  private readonly args: readonly string[];
  private readonly stopsAtOperand: boolean;
  private index = 0;
  /** Rest of a bundle of short options. */
  private bundle = '';

  /** @param stopsAtOperand what follows the first argument is no option, whatever it looks like (`+` of getopt) */
  constructor(program: string, rules: readonly R[], args: readonly string[], stopsAtOperand = false) {
    this.program = program;
    this.rules = rules;
    this.args = args;
    this.stopsAtOperand = stopsAtOperand;
  }

  /** The next option; undefined at the end. Throws `GetoptError`; what came before it has been returned by then. */
  next(): Found<R> | undefined {
    if (this.bundle !== '') return this.short();
    while (this.index < this.args.length) {
      const word = this.args[this.index++] as string;
      if (word === '--') return this.end(this.index);
      if (word.startsWith('--')) return this.long(word);
      if (word.startsWith('-') && word !== '-') {
        this.bundle = word.slice(1);
        return this.short();
      }
      if (this.stopsAtOperand) return this.end(this.index - 1);
      this.operands.push(word);
    }
    return undefined;
  }

  /** Nothing from `first` on is an option. */
  private end(first: number): undefined {
    this.operands.push(...this.args.slice(first));
    this.index = this.args.length;
    return undefined;
  }

  private short(): Found<R> {
    const letter = this.bundle.charAt(0);
    this.bundle = this.bundle.slice(1);
    const rule = this.rules.find(({ short }) => short === letter);
    if (rule === undefined) this.fail(`invalid option -- '${letter}'`);
    if (!rule.hasArgument) return { rule, argument: '' };
    const rest = this.bundle;
    this.bundle = '';
    if (rest !== '') return { rule, argument: rest };
    return { rule, argument: this.operand(`option requires an argument -- '${letter}'`) };
  }

  private long(word: string): Found<R> {
    const equals = word.indexOf('=');
    const name = equals < 0 ? word.slice(2) : word.slice(2, equals);
    const rule = this.resolve(name, word);
    if (rule.hasArgument) {
      const argument =
        equals < 0 ? this.operand(`option '--${rule.long}' requires an argument`) : word.slice(equals + 1);
      return { rule, argument };
    }
    if (equals >= 0) this.fail(`option '--${rule.long}' doesn't allow an argument`);
    return { rule, argument: '' };
  }

  private resolve(name: string, word: string): R {
    const exact = this.rules.find(({ long }) => long === name);
    if (exact !== undefined) return exact;
    const candidates = this.rules.filter(
      ({ long, exactOnly }) => exactOnly !== true && long.startsWith(name),
    );
    const [only, ...others] = candidates;
    if (only === undefined) this.fail(`unrecognized option '${word}'`);
    if (others.length === 0) return only;
    const names = candidates.map(({ long }) => ` '--${long}'`).join('');
    this.fail(`option '${word}' is ambiguous; possibilities:${names}`);
  }

  private operand(complaint: string): string {
    const word = this.args[this.index++];
    if (word === undefined) this.fail(complaint);
    return word;
  }

  private fail(complaint: string): never {
    throw new GetoptError(`${this.program}: ${complaint}`);
  }
}
