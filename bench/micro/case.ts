/** What is measured: one function of the packet path, called again and again. */
export interface Case {
  /** Where it stands in the table: `group/name`. */
  readonly group: string;
  readonly name: string;
  /** One call, or `calls` of them. What it computes goes to `keep`, so that the compiler cannot leave it out. */
  run(): void;
  /** How many calls `run` stands for; 1 unless told. Time and bytes are given per call. */
  readonly calls?: number;
}

/** Cases of one group, and what they hold that must be given back. */
export interface CaseGroup {
  readonly cases: readonly Case[];
  close?(): void;
}

let sink = 0;

/** Use `value`, as far as the compiler can tell. */
export function keep(value: number): void {
  sink ^= value;
}

/** What all values passed to `keep` came to. */
export function kept(): number {
  return sink;
}
