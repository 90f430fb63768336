// Objects against their schemas: kubernetes-models has each as TypeScript types,
// whose compiler refuses fields that nobody knows and values of the wrong type,
// and as functions that check what types can't say (required in depth, patterns).
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

const here = import.meta.dirname ?? new URL(".", import.meta.url).pathname;

const moduleOf = ({ apiVersion, kind }) => {
  const group = apiVersion.includes("/") ? apiVersion : `${apiVersion}`;
  const where = group.startsWith("postgresql.cnpg.io/") ? "@kubernetes-models/cloudnative-pg" : "kubernetes-models";
  return `${where}/${group}/${kind}`;
};

// The types of Go's strings are strings, whatever the operator takes.
const choices = {
  Cluster: {
    "postgresql.synchronous.method": ["any", "first"],
    "postgresql.synchronous.dataDurability": ["required", "preferred"],
    "probes.readiness.type": ["pg_isready", "streaming", "query"],
    "affinity.podAntiAffinityType": ["preferred", "required"],
    "primaryUpdateStrategy": ["unsupervised", "supervised"],
    "primaryUpdateMethod": ["switchover", "restart"],
  },
  Pooler: { type: ["rw", "ro", "r"], "pgbouncer.poolMode": ["session", "transaction"] },
};

function wrongChoices(object) {
  return Object.entries(choices[object.kind] ?? {}).flatMap(([path, allowed]) => {
    const value = path.split(".").reduce((at, key) => at?.[key], object.spec);
    return value === undefined || allowed.includes(value) ? [] : [`${path}: ${value} is none of ${allowed.join(", ")}`];
  });
}

function typeErrors(objects) {
  const folder = mkdtempSync(join(here, "types."));
  const file = join(folder, "objects.ts");
  const source = objects.map((object, i) =>
    `import type { I${object.kind} as T${i} } from "${moduleOf(object)}";\n` +
    `export const o${i}: T${i} = ${JSON.stringify(object, null, 1)};\n`).join("");
  try {
    ts.sys.writeFile(file, source);
    const program = ts.createProgram([file], {
      noEmit: true, strict: true, skipLibCheck: true, types: [], target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext,
    });
    return ts.getPreEmitDiagnostics(program).map((d) => {
      const before = source.slice(0, d.start);
      const at = objects[(before.match(/^import/gm) ?? []).length - 1];
      return `${at?.kind} ${at?.metadata.name}: ${ts.flattenDiagnosticMessageText(d.messageText, " ")}`;
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export async function schemaErrors(objects) {
  const errors = typeErrors(objects);
  for (const object of objects) {
    const name = `${object.kind} ${object.metadata.name}`;
    errors.push(...wrongChoices(object).map((e) => `${name}: ${e}`));
    try {
      const { [object.kind]: Model } = await import(moduleOf(object));
      new Model(object).validate();
    } catch (e) {
      errors.push(`${name}: ${e.message}`);
    }
  }
  return errors;
}
