import type { z } from '../zod.ts';
import type { ConfigProblem, Path } from './positions.ts';

type Issue = z.core.$ZodIssue;

/** The parts of a JSON Schema that are needed to know which settings exist at a place. */
interface JsonSchema {
  readonly properties?: Record<string, JsonSchema>;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly const?: unknown;
}

/** Turns what zod has to say into sentences for somebody who never heard of it. */
export function explain(issue: Issue, data: unknown, schema: JsonSchema): ConfigProblem[] {
  const path: Path = issue.path;
  const value = valueAt(data, path);
  const say = (message: string, at: 'key' | 'value' = 'value'): ConfigProblem[] => [{ path, at, message }];
  if (value === undefined && issue.code !== 'unrecognized_keys') {
    const kinds = issue.code === 'invalid_union' ? kindsOf(issue) : [];
    return say(kinds.length > 0 ? `is missing: it must be ${list(kinds)}` : 'is missing', 'key');
  }
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => ({
        path: [...path, key],
        at: 'key',
        message: unknownKey(key, settingsAt(schema, data, path)),
      }));
    case 'invalid_union': {
      const kinds = kindsOf(issue);
      if (kinds.length === 0) return say(issue.message);
      return say(`${show(value)} is not known; it must be ${list(kinds)}${suggestion(value, kinds)}`);
    }
    case 'invalid_type':
      return say(`must be ${typeNames[issue.expected] ?? issue.expected}, not ${typeOf(value)}`);
    case 'invalid_key':
      return say(`${show(path.at(-1))} ${issue.issues[0]?.message ?? 'is not a valid name'}`, 'key');
    case 'invalid_value':
      return say(`must be ${list(issue.values.map(String))}`);
    case 'too_small':
      return say(smallest(issue.origin, Number(issue.minimum)));
    case 'too_big':
      return say(`must be ${Number(issue.maximum)} or less`);
    case 'invalid_format':
      return say(issue.message.startsWith('must') ? `${issue.message}; it is ${show(value)}` : issue.message);
    default:
      return say(issue.message);
  }
}

/** `did you mean "store"?`, if one of the candidates is close. */
function suggestion(value: unknown, candidates: readonly string[]): string {
  if (typeof value !== 'string') return '';
  const near = candidates
    .map((candidate) => ({ candidate, distance: editDistance(value.toLowerCase(), candidate.toLowerCase()) }))
    .toSorted((a, b) => a.distance - b.distance)
    .at(0);
  const close = near !== undefined && near.distance <= Math.max(1, Math.floor(value.length / 3));
  return close ? `; did you mean "${near.candidate}"?` : '';
}

function unknownKey(key: string, known: readonly string[]): string {
  const close = suggestion(key, known);
  if (close !== '') return `is not a setting${close}`;
  return known.length === 0
    ? 'is not a setting'
    : `is not a setting; here these are known: ${known.join(', ')}`;
}

function kindsOf(issue: Extract<Issue, { code: 'invalid_union' }>): string[] {
  return 'options' in issue && Array.isArray(issue.options) ? issue.options.map(String) : [];
}

function smallest(origin: string, minimum: number): string {
  if (origin === 'string')
    return minimum <= 1 ? 'must not be empty' : `must have at least ${minimum} characters`;
  if (origin === 'array')
    return minimum <= 1 ? 'must not be an empty list' : `needs at least ${minimum} entries`;
  return `must be ${minimum} or more`;
}

const typeNames: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a group of settings',
  record: 'a group of settings',
};

function typeOf(value: unknown): string {
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a group of settings';
  if (typeof value === 'string') return `the text ${show(value)}`;
  return `${typeof value === 'number' ? 'the number ' : ''}${show(value)}`;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function list(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

function valueAt(data: unknown, path: Path): unknown {
  let value = data;
  for (const step of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[step];
  return value;
}

/** The names of the settings that may stand at this place, given what `kind` says there. */
function settingsAt(schema: JsonSchema, data: unknown, path: Path): string[] {
  let here: JsonSchema | undefined = choose(schema, data);
  for (const [index, step] of path.entries()) {
    const below: JsonSchema | undefined =
      typeof step === 'number' ? here?.items : (here?.properties?.[String(step)] ?? additional(here));
    here = below && choose(below, valueAt(data, path.slice(0, index + 1)));
  }
  return Object.keys(here?.properties ?? {});
}

function additional(schema: JsonSchema | undefined): JsonSchema | undefined {
  return typeof schema?.additionalProperties === 'object' ? schema.additionalProperties : undefined;
}

function choose(schema: JsonSchema, value: unknown): JsonSchema {
  const branches = schema.oneOf ?? schema.anyOf;
  if (branches === undefined) return schema;
  const kind = (value as { kind?: unknown } | null | undefined)?.kind;
  return branches.find(({ properties }) => properties?.['kind']?.const === kind) ?? schema;
}

/** Insertions, deletions, replacements and swaps of neighbours that make `b` out of `a`. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = swapped ? (beforeLast[j - 2] ?? 0) + 1 : Infinity;
      row.push(Math.min(replace, swap, (last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length] ?? 0;
}
