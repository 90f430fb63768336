// What must be true of a kustomization as a whole. Each rule returns what is
// wrong, as a list of strings.
import { existsSync } from "node:fs";
import { envOf, hasPort, matches, portNumber, select, walk } from "./model.mjs";

const title = (o) => `${o.kind} ${o.metadata.name}`;

// A Service without a selector is right where Patroni writes its Endpoints.
function patroniService({ pods }, service) {
  return pods.some((p) => {
    const env = envOf(p.spec.containers[0] ?? {});
    return env.PATRONI_SCOPE === service.metadata.name && env.PATRONI_KUBERNETES_USE_ENDPOINTS === "true" &&
      p.labels[env.PATRONI_KUBERNETES_SCOPE_LABEL] === env.PATRONI_SCOPE &&
      JSON.parse(env.PATRONI_KUBERNETES_PORTS).some((x) => service.spec.ports.some((y) => x.name === y.name && x.port === y.port)) &&
      Object.entries(JSON.parse(env.PATRONI_KUBERNETES_LABELS)).every(([k, v]) => p.labels[k] === v);
  });
}

export function selectorsMatch(m) {
  const wrong = [];
  for (const s of m.services.filter((x) => !x.spec.selector && !patroniService(m, x))) wrong.push(`${title(s)} has no selector`);
  for (const s of m.services.filter((x) => x.spec.selector)) {
    if (!select(m.pods, { matchLabels: s.spec.selector }).length) wrong.push(`${title(s)} selects no pod`);
  }
  for (const o of m.of("Deployment", "StatefulSet")) {
    if (!matches(o.spec.selector, o.spec.template.metadata.labels)) wrong.push(`${title(o)} doesn't select its own pods`);
    if (o.spec.serviceName && !m.services.some((s) => s.metadata.name === o.spec.serviceName)) wrong.push(`${title(o)}: no Service ${o.spec.serviceName}`);
  }
  for (const o of m.objects) {
    for (const [key, value] of walk(o.spec)) {
      // namespaceSelector is about other objects, and clients are elsewhere
      const elsewhere = key === "podSelector" && JSON.stringify(value).includes("sagaz-ha-client");
      const operator = value.matchLabels?.["app.kubernetes.io/name"] === "cloudnative-pg";
      if (["podSelector", "labelSelector", "selector"].includes(key) && o.kind !== "Service" &&
          !elsewhere && !operator && !select(m.pods, value).length) wrong.push(`${title(o)}: ${key} ${JSON.stringify(value)} selects no pod`);
    }
  }
  return wrong;
}

export function portsExist(m) {
  const wrong = [];
  for (const s of m.services.filter((x) => x.spec.selector)) {
    for (const p of s.spec.ports) {
      for (const pod of select(m.pods, { matchLabels: s.spec.selector })) {
        if (!hasPort(pod, p.targetPort ?? p.port)) wrong.push(`${title(s)}: ${pod.owner} has no port ${p.targetPort ?? p.port}`);
      }
    }
  }
  for (const o of m.of("NetworkPolicy")) {
    for (const pod of select(m.pods, o.spec.podSelector)) {
      for (const p of (o.spec.ingress ?? []).flatMap((r) => r.ports ?? [])) {
        if (!hasPort(pod, p.port)) wrong.push(`${title(o)}: ${pod.owner} has no port ${p.port}`);
      }
    }
  }
  for (const pod of m.pods.filter((p) => p.ours)) {
    for (const [, value] of walk(pod.spec)) {
      for (const probe of [value.httpGet, value.tcpSocket].filter(Boolean)) {
        if (!hasPort(pod, probe.port)) wrong.push(`${pod.owner}: a probe asks port ${probe.port}, which it doesn't have`);
      }
    }
  }
  return wrong;
}

// Secrets are not in the manifests; the README says how to make them.
const prerequisites = (readme) => new Map([...readme.matchAll(/create secret generic (\S+)((?:[^\n]*\\\n)*[^\n]*)/g)]
  .map(([, name, rest]) => [name, [...rest.matchAll(/--from-(?:literal|file)=([^=\s]+)=/g)].map(([, key]) => key)]));

export function referencesExist(m, { readme }) {
  const secrets = prerequisites(readme);
  const maps = new Map(m.of("ConfigMap").map((o) => [o.metadata.name, Object.keys(o.data)]));
  const used = new Set();
  const wrong = [];
  const want = (known, kind, where, name, keys) => {
    used.add(`${kind} ${name}`);
    if (!known.has(name)) wrong.push(`${where}: there is no ${kind} ${name}`);
    else for (const k of keys) if (!known.get(name).includes(k)) wrong.push(`${where}: ${kind} ${name} has no ${k}`);
  };
  for (const o of m.objects) {
    for (const [key, v] of walk(o.spec ?? {})) {
      const keys = [...(v.items ?? []).map((i) => i.key), ...(v.key ? [v.key] : [])];
      if (["secret", "secretKeyRef", "secretRef"].includes(key)) want(secrets, "Secret", title(o), v.secretName ?? v.name, keys);
      if (["superuserSecret", "passwordSecret"].includes(key)) want(secrets, "Secret", title(o), v.name, ["username", "password"]);
      if (["configMap", "configMapKeyRef", "configMapRef"].includes(key)) want(maps, "ConfigMap", title(o), v.name, keys);
    }
    for (const [, v] of walk(o.spec ?? {})) {
      if (v.serviceAccountName && !m.of("ServiceAccount").some((a) => a.metadata.name === v.serviceAccountName)) wrong.push(`${title(o)}: no ServiceAccount ${v.serviceAccountName}`);
    }
  }
  for (const o of m.of("RoleBinding")) {
    if (!m.of("Role").some((r) => r.metadata.name === o.roleRef.name)) wrong.push(`${title(o)}: no Role ${o.roleRef.name}`);
    for (const s of o.subjects) if (!m.of(s.kind).some((x) => x.metadata.name === s.name && x.metadata.namespace === s.namespace)) wrong.push(`${title(o)}: no ${s.kind} ${s.name}`);
  }
  for (const name of maps.keys()) if (!used.has(`ConfigMap ${name}`)) wrong.push(`nobody uses ConfigMap ${name}`);
  for (const o of m.of("Secret")) wrong.push(`${title(o)} is in the manifests`);
  return wrong;
}

// Every mount has a volume and every volume a mount; a file that a variable names
// is in one of them.
export function volumesMounted(m) {
  const wrong = [];
  for (const pod of m.pods.filter((p) => p.ours)) {
    const volumes = pod.spec.volumes ?? [];
    const names = [...volumes.map((v) => v.name), ...pod.claims];
    const mounted = new Set();
    for (const c of pod.spec.containers) {
      const mounts = c.volumeMounts ?? [];
      for (const mount of mounts) {
        mounted.add(mount.name);
        if (!names.includes(mount.name)) wrong.push(`${pod.owner}: ${c.name} mounts ${mount.name}, which is no volume`);
      }
      for (const [name, value] of Object.entries(envOf(c)).filter(([n]) => n.endsWith("_FILE"))) {
        const found = mounts.some((mount) => (volumes.find((v) => v.name === mount.name)?.projected?.sources ?? [])
          .some((s) => s.secret.items.some((i) => `${mount.mountPath}/${i.path}` === value)));
        if (!found) wrong.push(`${pod.owner}: ${name}=${value} of ${c.name} is in no volume`);
      }
    }
    for (const name of names.filter((n) => !mounted.has(n))) wrong.push(`${pod.owner}: nobody mounts ${name}`);
  }
  return wrong;
}

// ConfigMaps come from config/ and are mounted where the image has that folder.
export function configurationComplete(m, { config }) {
  const wrong = [];
  for (const pod of m.pods.filter((p) => p.ours)) {
    for (const v of (pod.spec.volumes ?? []).filter((x) => x.configMap)) {
      const files = Object.keys(m.of("ConfigMap").find((o) => o.metadata.name === v.configMap.name)?.data ?? {});
      for (const mount of pod.spec.containers.flatMap((c) => c.volumeMounts ?? []).filter((x) => x.name === v.name)) {
        const folder = mount.mountPath.replace(/^\/opt\/sagaz-ha\/config\//, "");
        for (const f of files) if (!existsSync(`${config}/${folder}/${f}`)) wrong.push(`${pod.owner}: ${mount.mountPath}/${f} is not config/${folder}/${f}`);
      }
    }
  }
  return wrong;
}

const folder = "/opt/sagaz-ha/scripts/";
const program = (container) => container.args?.[0]?.replace(folder, "") ?? "";
// What deploy/Dockerfile has to install for each.
const needed = { patroni: "patroni", pool: "pgbouncer", exporter: "python3", prometheus: "prometheus", "redis-server": "redis-server", relay: "deploy/relay" };

// Pod Security "restricted", one image, bounded resources, known programs.
export function podsAreSafe(m, { scripts, image }) {
  const wrong = [];
  const images = new Set([...m.of("Cluster").map((o) => o.spec.imageName)]);
  for (const pod of m.pods.filter((p) => p.ours)) {
    const s = pod.spec.securityContext ?? {};
    const say = (what) => wrong.push(`${pod.owner}: ${what}`);
    if (!s.runAsNonRoot || s.runAsUser !== image.uid) say(`doesn't run as the image's user, ${image.uid}`);
    if (s.seccompProfile?.type !== "RuntimeDefault") say("no seccomp profile");
    if (!pod.spec.serviceAccountName && pod.spec.automountServiceAccountToken !== false) say("has a token for the API server");
    for (const c of pod.spec.containers) {
      images.add(c.image);
      const sc = c.securityContext ?? {};
      if (!sc.readOnlyRootFilesystem || sc.allowPrivilegeEscalation !== false || sc.capabilities?.drop?.[0] !== "ALL") say(`${c.name} is not confined`);
      if (!c.resources?.requests?.cpu || !c.resources.requests.memory || !c.resources.limits?.memory) say(`${c.name} has no requests, or no limit of memory`);
      if (!existsSync(`${scripts}/${program(c)}`) && !(program(c) in needed)) say(`${c.name} runs ${c.args?.[0]}, which is not in the image`);
      if (!image.text.match(`\\s${needed[program(c)] ?? ""}\\b`)) say(`${c.name} needs ${needed[program(c)]}, which deploy/Dockerfile doesn't install`);
    }
  }
  if (images.size !== 1) wrong.push(`not one image but ${[...images].join(", ")}`);
  for (const i of images) if (!/:[0-9]+[-.]/.test(i)) wrong.push(`${i} has no tag that begins with PostgreSQL's version`);
  for (const o of m.of("Cluster")) if (o.spec.postgresUID !== image.uid || o.spec.postgresGID !== image.uid) wrong.push(`${title(o)}: postgres is ${image.uid} in the image`);
  return wrong;
}

// Whatever has several pods keeps one through a drain, on another node.
export function survivesNodes(m) {
  const wrong = [];
  for (const pod of m.pods.filter((p) => p.replicas > 1 && !p.owner.startsWith("Job"))) {
    const cluster = m.of("Cluster").find((o) => title(o) === pod.owner);
    const budget = m.of("PodDisruptionBudget").some((o) => matches(o.spec.selector, pod.labels)) || cluster?.spec.enablePDB;
    const terms = pod.spec.affinity?.podAntiAffinity ?? {};
    const apart = cluster?.spec.affinity.enablePodAntiAffinity ||
      [...(terms.requiredDuringSchedulingIgnoredDuringExecution ?? []),
        ...(terms.preferredDuringSchedulingIgnoredDuringExecution ?? []).map((t) => t.podAffinityTerm)]
        .some((t) => t.topologyKey === "kubernetes.io/hostname" && matches(t.labelSelector, pod.labels));
    // a relay may be evicted at any time: nobody connects to it
    if (!budget && pod.ports.length) wrong.push(`${pod.owner} has no PodDisruptionBudget`);
    if (!apart) wrong.push(`${pod.owner} may have all its pods on one node`);
  }
  return wrong;
}

// Where a pod connects to: [owner, pods, port], and what names no Service.
function connections(m, from) {
  const found = [];
  const wrong = [];
  for (const c of from.spec.containers.filter((x) => x.env)) {
    const env = envOf(c);
    for (const [name, host] of Object.entries(env).filter(([n, v]) => /^(PRIMARY_|REPLICA_|TARGET_|PG|REDIS_)HOST$/.test(n) && v !== "127.0.0.1")) {
      const port = Number(env[name.replace("HOST", "PORT")] ?? 6379);
      const service = m.services.find((s) => s.metadata.name === host);
      const entry = service?.spec.ports.find((p) => p.port === port);
      if (!entry) wrong.push(`${from.owner}: ${name}=${host} is no Service with port ${port}`);
      else if (service.spec.selector) found.push([select(m.pods, { matchLabels: service.spec.selector }), entry.targetPort ?? port]);
      else found.push([m.pods.filter((p) => envOf(p.spec.containers[0] ?? {}).PATRONI_SCOPE === host), port]);
    }
  }
  const pooler = m.of("Pooler").find((o) => title(o) === from.owner);
  if (pooler) found.push([m.pods.filter((p) => p.owner === `Cluster ${pooler.spec.cluster.name}`), 5432]);
  return { found, wrong };
}

const peerAllows = (peer, pod) => !peer.namespaceSelector && peer.podSelector && matches(peer.podSelector, pod.labels);

function allowed(m, from, to, port) {
  return m.of("NetworkPolicy").filter((o) => matches(o.spec.podSelector, to.labels)).some((o) =>
    (o.spec.ingress ?? []).some((rule) =>
      rule.from.some((peer) => peerAllows(peer, from)) && rule.ports.some((p) => portNumber(to, p.port) === port)));
}

// Each address in a variable is a Service, whose pods may be connected to from
// there; and nobody else may.
export function networkFits(m) {
  const wrong = [];
  const denied = m.of("NetworkPolicy").some((o) => !Object.keys(o.spec.podSelector).length && !o.spec.ingress && o.spec.policyTypes.includes("Ingress"));
  if (!denied) wrong.push("no policy denies by default");
  for (const from of m.pods) {
    const { found, wrong: unknown } = connections(m, from);
    wrong.push(...unknown);
    for (const [targets, port] of found) {
      if (!targets.length) wrong.push(`${from.owner} connects to nobody`);
      for (const to of targets) {
        if (!allowed(m, from, to, portNumber(to, port))) wrong.push(`no policy lets ${from.owner} connect to ${to.owner}, port ${port}`);
      }
    }
  }
  for (const pod of m.pods.filter((p) => p.owner.startsWith("StatefulSet postgres") || p.owner.startsWith("Cluster"))) {
    if (!allowed(m, pod, pod, 5432)) wrong.push(`no policy lets ${pod.owner} replicate`);
    for (const o of m.of("NetworkPolicy").filter((x) => matches(x.spec.podSelector, pod.labels))) {
      if (JSON.stringify(o).includes("sagaz-ha-client")) wrong.push(`${title(o)} lets applications pass by the pools`);
    }
  }
  return wrong;
}

// Prometheus's targets are pods, by the names that StatefulSets give them: each of
// them, and nothing else.
export function targetsExist(m, { targets }) {
  const prometheus = m.pods.find((p) => p.owner === "StatefulSet prometheus");
  if (!prometheus) return [];
  const left = new Set(targets.filter((t) => !t.startsWith("localhost:")));
  const wrong = [];
  for (const o of m.of("StatefulSet")) {
    const pod = m.pods.find((p) => p.owner === title(o));
    const port = portNumber(pod, "metrics");
    for (let i = 0; port && i < o.spec.replicas; i++) {
      const target = `${o.metadata.name}-${i}.${o.spec.serviceName}:${port}`;
      if (!left.delete(target)) wrong.push(`${target} is no target`);
    }
    if (port && !allowed(m, prometheus, pod, port)) wrong.push(`no policy lets Prometheus connect to ${pod.owner}`);
  }
  return [...wrong, ...[...left].map((t) => `${t} is no pod`)];
}

// A server is ready when node_ready() says so; the operator has a probe of its own.
export function readiness(m) {
  const wrong = [];
  for (const pod of m.pods.filter((p) => p.ours && p.ports.length)) {
    const [c] = pod.spec.containers;
    const command = (c.readinessProbe?.exec?.command ?? []).join(" ");
    const expected = { patroni: `${folder}healthcheck primary || ${folder}healthcheck replica`, pool: `${folder}healthcheck pool`, "redis-server": `${folder}healthcheck redis` }[program(c)];
    if (!c.readinessProbe || (expected && !command.endsWith(expected))) wrong.push(`${pod.owner} is ready without: ${expected ?? "a probe"}`);
    if (c.readinessProbe?.exec && !(c.readinessProbe.timeoutSeconds > 5)) wrong.push(`${pod.owner}: healthcheck may take 5 s`);
  }
  for (const o of m.of("Cluster")) if (o.spec.probes?.readiness?.type !== "streaming" || !o.spec.probes.readiness.maximumLag) wrong.push(`${title(o)} serves stale reads`);
  return wrong;
}

export const settings = (text) => Object.fromEntries([...text.matchAll(/^([a-z_.]+) *= *'?([^'\n]*?)'? *$/gm)].map(([, k, v]) => [k, v]));

const poolSizes = {
  StatefulSet: (o, m) => {
    const [, kind] = o.spec.template.spec.containers[0].args ?? [];
    const map = m.of("ConfigMap").find((x) => `pgbouncer-${kind}.ini` in x.data);
    return Number(settings(map.data[`pgbouncer-${kind}.ini`]).max_db_connections);
  },
  Pooler: (o) => Number(o.spec.pgbouncer.parameters.max_db_connections),
};

// After a failover all pools can have connections to the same server.
export function poolsFit(m, { postgresql, patroni }) {
  const wrong = [];
  const pools = [...m.of("StatefulSet").filter((o) => program(o.spec.template.spec.containers[0]) === "pool"), ...m.of("Pooler")];
  const sum = pools.reduce((n, o) => n + poolSizes[o.kind](o, m) * (o.spec.replicas ?? o.spec.instances), 0);
  const limit = Number(m.of("Cluster")[0]?.spec.postgresql.parameters.max_connections ?? postgresql.max_connections);
  const reserved = Number(postgresql.superuser_reserved_connections ?? 3);
  if (pools.length !== 2 || !(sum < limit - reserved)) wrong.push(`${pools.length} pools of together ${sum} connections, max_connections ${limit}, ${reserved} of them reserved`);
  const given = patroni.bootstrap.dcs.postgresql.parameters;
  for (const [k, v] of Object.entries(given)) {
    if (k in postgresql && String(v) !== postgresql[k]) wrong.push(`${k} is ${v} in patroni.yml and ${postgresql[k]} in postgresql.conf`);
  }
  return wrong;
}

// The operator's objects can't include files, so their values are compared.
export function operatorValues(m, { postgresql, pools }) {
  const wrong = [];
  // these are the operator's, or about the socket and the log that it has
  const fixed = ["archive_command", "archive_mode", "unix_socket_permissions", "password_encryption", "wal_level", "hot_standby", "log_line_prefix", "log_timezone"];
  const given = m.of("Cluster")[0]?.spec.postgresql.parameters;
  for (const [k, v] of Object.entries(given ? postgresql : {})) {
    if (!fixed.includes(k) && given[k] !== v) wrong.push(`${k} is ${v} in postgresql.conf and ${given[k]} in the Cluster`);
  }
  for (const o of m.of("Pooler")) {
    const ini = pools[o.spec.type];
    if (o.spec.pgbouncer.poolMode !== ini.pool_mode) wrong.push(`${title(o)}: poolMode isn't ${ini.pool_mode}`);
    for (const k of ["max_client_conn", "default_pool_size", "min_pool_size", "server_lifetime", "max_db_connections", "server_login_retry", "server_connect_timeout"]) {
      if (o.spec.pgbouncer.parameters[k] !== ini[k]) wrong.push(`${title(o)}: ${k} isn't ${ini[k]}`);
    }
  }
  return wrong;
}

// The names in the README's command that makes the certificate.
const certified = (readme) => readme.match(/scripts\/certificates \S+((?:[^\n]*\\\n)*[^\n]*)/)[1].split(/[\s\\]+/).filter(Boolean);

// Whatever runs one of the scripts has TLS_DIR, and what it needs there; the relay has
// libpq's variables. What is connected to is in the certificate, by its name.
export function encrypted(m, { readme, targets }) {
  const wrong = [];
  const names = [...certified(readme), "localhost", "127.0.0.1"];
  const named = (who, host) => names.includes(host) || wrong.push(`${who}: ${host} is not in the README's certificate`);
  const ours = m.pods.filter((p) => p.ours);
  if (!ours.some((p) => (p.spec.volumes ?? []).some((v) => v.secret?.secretName === "sagaz-tls"))) return [];
  for (const pod of ours) {
    for (const c of pod.spec.containers.filter((x) => program(x) !== "redis-server")) {
      const env = envOf(c);
      const say = (what) => wrong.push(`${pod.owner}: ${c.name} ${what}`);
      const folder = env.TLS_DIR ?? env.PGSSLROOTCERT?.replace(/\/ca.crt$/, "");
      const mount = (c.volumeMounts ?? []).find((x) => x.mountPath === folder);
      if (!folder || (env.PGSSLROOTCERT && env.PGSSLMODE !== "verify-full")) say("checks no server");
      else if (pod.spec.volumes.find((v) => v.name === mount?.name)?.secret?.secretName !== "sagaz-tls") say(`has no ${folder}`);
      if (c.name === "exporter" && c.livenessProbe.httpGet.scheme !== "HTTPS") say("is probed without TLS");
      for (const [name, host] of Object.entries(env)) {
        if (/^(PRIMARY_|REPLICA_|TARGET_|PG)HOST$/.test(name)) named(pod.owner, host);
        if (name === "NODE_ADDRESS") {
          for (let i = 0; i < pod.replicas; i++) named(pod.owner, `${host}`.replace("$(NODE_NAME)", `${pod.owner.split(" ")[1]}-${i}`));
        }
      }
    }
  }
  for (const t of targets.filter((x) => !x.startsWith("localhost:"))) named("Prometheus", t.split(":")[0]);
  for (const file of ["pg_hba_tls.conf", "tls.ini"]) {
    if (!m.of("ConfigMap").some((o) => file in o.data)) wrong.push(`no ConfigMap has ${file}`);
  }
  return wrong;
}
