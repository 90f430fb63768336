// usage: node check.mjs TREE KIND FILE    TREE/deploy/k8s/KIND as built into FILE
// Writes TAP, without a plan: the caller has it.
import { readdirSync, readFileSync } from "node:fs";
import { parse, parseAllDocuments } from "yaml";
import { model } from "./model.mjs";
import * as rules from "./rules.mjs";
import { schemaErrors } from "./schema.mjs";

const [tree, kind, file] = process.argv.slice(2);
const read = (name) => readFileSync(`${tree}/deploy/${name}`, "utf8");
const ini = (name) => rules.settings(read("config/pgbouncer/common.ini") + read(`config/pgbouncer/pgbouncer-${name}.ini`));
const context = {
  config: `${tree}/deploy/config`,
  scripts: `${tree}/deploy/scripts`,
  readme: read("k8s/README.md"),
  image: { text: read("Dockerfile"), uid: Number(read("Dockerfile").match(/useradd --uid ([0-9]+)/)?.[1]) },
  postgresql: rules.settings(read("config/postgresql/postgresql.conf")),
  patroni: parse(read("config/patroni/patroni.yml")),
  targets: readdirSync(`${tree}/deploy/config/prometheus/targets/k8s`)
    .flatMap((f) => parse(read(`config/prometheus/targets/k8s/${f}`))).flatMap((t) => t.targets),
  pools: { rw: ini("rw"), ro: ini("ro") },
};

const objects = parseAllDocuments(readFileSync(file, "utf8")).map((d) => d.toJS()).filter(Boolean);
const m = model(objects);

function report(what, wrong) {
  console.log(`${wrong.length ? "not " : ""}ok - ${kind}: ${what}`);
  for (const w of wrong) console.log(`#   ${w}`);
}

const checks = {
  "selectors select": rules.selectorsMatch,
  "ports exist": rules.portsExist,
  "ConfigMaps, Secrets and accounts exist": rules.referencesExist,
  "volumes are there and mounted": rules.volumesMounted,
  "configuration is that of deploy/config": rules.configurationComplete,
  "pods are confined, and from one image": rules.podsAreSafe,
  "a node may go": rules.survivesNodes,
  "the network lets through what is needed": rules.networkFits,
  "Prometheus has every exporter as a target": rules.targetsExist,
  "readiness asks the server": rules.readiness,
  "pools fit into max_connections": rules.poolsFit,
  "the operator's values are those of deploy/config": rules.operatorValues,
  "with Secret sagaz-tls, everything talks TLS": rules.encrypted,
};
report(`${objects.length} objects fit their schemas`, objects.length ? await schemaErrors(objects) : ["nothing was built"]);
for (const [what, rule] of Object.entries(checks)) report(what, rule(m, context));

// A folder that no kustomization uses would be checked by nobody.
const kinds = readdirSync(`${tree}/deploy/k8s`, { withFileTypes: true }).filter((d) => d.isDirectory()).map((d) => d.name);
report("its folder is known", ["cloudnative-pg", "common", "patroni", "patroni-tls"].join() === kinds.sort().join() ? [] : [`deploy/k8s has ${kinds}`]);
