import { ask, askByOwnPath, literal, type Server } from './postgres-connection.ts';

/**
 * A pattern of table names as psql and pg_dump have it. One that names a database is for that database alone.
 * https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS
 */
export interface TablePattern {
  /** As it was written. */
  readonly text: string;
  readonly database: string | undefined;
  /** For pg_dump: without the database, which its older versions do not heed. */
  readonly table: string;
  /** As regular expressions of PostgreSQL; without a schema, the tables that need none in a query. */
  readonly schemaRegex: string | undefined;
  readonly nameRegex: string;
}

export function parsePattern(text: string): TablePattern {
  const parts = text.match(/(?:"(?:[^"]|"")*"|[^".])+/gs) ?? [];
  const [name = '', schema, database] = parts.toReversed();
  return {
    text,
    database: database === undefined ? undefined : literalName(database),
    table: parts.slice(-2).join('.'),
    schemaRegex: schema === undefined ? undefined : toRegex(schema),
    nameRegex: toRegex(name),
  };
}

/** The name of a database is no pattern. */
const literalName = (part: string): string =>
  part.replace(/"((?:[^"]|"")*)"|([^"]+)/gs, (_all, quoted?: string, plain = '') =>
    quoted === undefined ? toLowerCase(plain) : quoted.replaceAll('""', '"'),
  );

function toRegex(part: string): string {
  const inside = part.replace(/"((?:[^"]|"")*)"|([^"]+)/gs, (_all, quoted?: string, plain = '') =>
    quoted === undefined
      ? toLowerCase(plain).replace(/\[\]|[*?$]/g, (found) => wildcards[found] ?? found)
      : quoted.replaceAll('""', '"').replace(/[|*+?()[\]{}.^$\\]/g, '\\$&'),
  );
  return `^(${inside})$`;
}

const wildcards: Record<string, string> = { '*': '.*', '?': '.', $: '\\$', '[]': '\\[]' };

/** As PostgreSQL folds names, whatever the locale. */
const toLowerCase = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

export interface Excludes {
  /** Tables that are not in the dump at all. */
  readonly tables: readonly TablePattern[];
  /** Tables without their rows. */
  readonly data: readonly TablePattern[];
}

/** Those that concern this database. */
export function excludesOf({ tables, data }: Excludes, database: string): Excludes {
  const concerns = (pattern: TablePattern) => (pattern.database ?? database) === database;
  return { tables: tables.filter(concerns), data: data.filter(concerns) };
}

export const dumpOptions = ({ tables, data }: Excludes): string[] => [
  ...tables.map(({ table }) => `--exclude-table=${table}`),
  ...data.map(({ table }) => `--exclude-table-data=${table}`),
];

export interface ExcludeFindings {
  /** The patterns that leave something out, as they were written. */
  readonly used: readonly string[];
  /** Patterns for rows that match a partitioned table, which has them in its partitions. */
  readonly rowless: readonly string[];
  /** What is saved and will not load, because it needs what is left out: one sentence each. */
  readonly needed: readonly string[];
}

/** What the patterns mean in one database; pg_dump itself says nothing of it. */
export async function inspectExcludes(
  server: Server,
  database: string,
  excludes: Excludes,
  signal: AbortSignal,
): Promise<ExcludeFindings> {
  const patterns = [
    ...excludes.tables.map((pattern) => ({ ...pattern, whole: true })),
    ...excludes.data.map((pattern) => ({ ...pattern, whole: false })),
  ];
  if (patterns.length === 0) return { used: [], rowless: [], needed: [] };
  const rows = patterns.map(
    ({ text, schemaRegex, nameRegex, whole }) =>
      `(${literal(text)}, ${schemaRegex === undefined ? 'NULL' : literal(schemaRegex)}, ${literal(nameRegex)}, ${whole})`,
  );
  const path = (await askByOwnPath(server, database, ownPath, signal)) as string[];
  const found = (await ask(server, database, query(rows, path), signal)) as {
    used: string[];
    rowless: string[];
    needed: { saved: string; how: string; excluded: string; whole: boolean }[];
  };
  return {
    used: found.used,
    rowless: found.rowless,
    needed: found.needed.map(
      ({ saved, how, excluded, whole }) =>
        `database ${JSON.stringify(database)}: ${saved} ${how} ${excluded}, of which ` +
        (whole
          ? 'nothing is saved (excludeTables): such a dump does not load. Exclude both, or only the rows'
          : 'no row is saved (excludeTableData): such a dump does not load if there are rows that refer to it'),
    ),
  };
}

/** Where a name without a schema is looked for, in order. */
const ownPath = 'SELECT pg_catalog.to_json(pg_catalog.current_schemas(true))';

/** Which tables match, as pg_dump decides it; and what refers to one of them from outside. */
const query = (rows: readonly string[], path: readonly string[]): string => `
  WITH pattern (text, schema, name, whole) AS (VALUES ${rows.join(', ')}),
  visible AS (
    SELECT DISTINCT ON (c.relname) c.oid FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN unnest(ARRAY[${path.map(literal).join(', ')}]) WITH ORDINALITY p (schema, place) ON n.nspname = p.schema
    ORDER BY c.relname, p.place),
  matching AS (
    SELECT c.oid, p.text, p.whole, c.relkind FROM pattern p JOIN pg_catalog.pg_class c ON c.relname ~ p.name COLLATE pg_catalog.default
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p')
    AND CASE WHEN p.schema IS NULL THEN c.oid IN (SELECT oid FROM visible)
      ELSE n.nspname ~ p.schema COLLATE pg_catalog.default END),
  excluded AS (SELECT oid, bool_or(whole) AS whole FROM matching GROUP BY oid),
  needed AS (
    SELECT oid AS excluded, 'pg_catalog.pg_class'::pg_catalog.regclass AS class, oid AS object FROM excluded
    UNION SELECT e.oid, 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid
      FROM excluded e JOIN pg_catalog.pg_type r ON r.typrelid = e.oid JOIN pg_catalog.pg_type t ON t.oid IN (r.oid, r.typarray)),
  reference AS (
    SELECT conrelid AS relation, conrelid::pg_catalog.regclass::text AS saved, 'refers by a foreign key to' AS how,
      confrelid AS excluded, true AS needs_rows FROM pg_catalog.pg_constraint WHERE contype = 'f'
    UNION SELECT r.ev_class, r.ev_class::pg_catalog.regclass::text, 'is a view of', d.refobjid, false
      FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON d.objid = r.oid
      WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND r.ev_class <> d.refobjid
    UNION SELECT inhrelid, inhrelid::pg_catalog.regclass::text, 'is a part of', inhparent, false FROM pg_catalog.pg_inherits
    UNION SELECT coalesce(a.adrelid, p.polrelid, t.tgrelid, i.indrelid, c.oid),
        pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid), 'needs', n.excluded, false
      FROM needed n JOIN pg_catalog.pg_depend d ON d.refclassid = n.class AND d.refobjid = n.object AND d.deptype = 'n'
      LEFT JOIN pg_catalog.pg_attrdef a ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND a.oid = d.objid
      LEFT JOIN pg_catalog.pg_policy p ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND p.oid = d.objid
      LEFT JOIN pg_catalog.pg_trigger t ON d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND t.oid = d.objid
      LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.objid
      LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
      WHERE d.classid NOT IN ('pg_catalog.pg_rewrite'::pg_catalog.regclass, 'pg_catalog.pg_constraint'::pg_catalog.regclass)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid AND h.inhparent = n.excluded))
  SELECT json_build_object(
    'used', (SELECT coalesce(json_agg(DISTINCT text), '[]') FROM matching WHERE whole OR relkind NOT IN ('p', 'v')),
    'rowless', (SELECT coalesce(json_agg(DISTINCT text), '[]') FROM matching WHERE NOT whole AND relkind = 'p'),
    'needed', (SELECT coalesce(json_agg(json_build_object(
        'saved', r.saved, 'how', r.how, 'excluded', r.excluded::pg_catalog.regclass, 'whole', e.whole)
        ORDER BY r.saved, r.excluded::pg_catalog.regclass::text), '[]')
      FROM reference r JOIN excluded e ON e.oid = r.excluded LEFT JOIN excluded s ON s.oid = r.relation
      WHERE NOT coalesce(s.whole, false) AND (e.whole OR (r.needs_rows AND s.oid IS NULL))))`;
