// What the objects of a kustomization would be in a cluster: pods with labels,
// ports and containers, and selectors over them. Patroni and the operator add
// labels and make pods of their own; those are here as well.
const asPod = (owner, template, extra = {}) => ({
  owner: `${owner.kind} ${owner.metadata.name}`,
  replicas: owner.spec.replicas ?? 1,
  labels: { ...template.metadata?.labels, ...extra.labels },
  spec: template.spec,
  claims: (owner.spec.volumeClaimTemplates ?? []).map((c) => c.metadata.name),
  ours: !extra.ports,
  ports: extra.ports ?? template.spec.containers.flatMap((c) => c.ports ?? [])
    .map((p) => ({ name: p.name, port: p.containerPort })),
});

export const envOf = (container) => Object.fromEntries((container.env ?? []).map((e) => [e.name, e.value]));

// One for each role that Patroni may give it.
function workloadPods(object) {
  const env = envOf(object.spec.template.spec.containers[0]);
  const label = env.PATRONI_KUBERNETES_ROLE_LABEL;
  const roles = label ? [env.PATRONI_KUBERNETES_LEADER_LABEL_VALUE, env.PATRONI_KUBERNETES_FOLLOWER_LABEL_VALUE] : [null];
  return roles.map((role) => asPod(object, object.spec.template, { labels: role ? { [label]: role } : {} }));
}

const operatorPods = {
  Cluster: (o) => ["primary", "replica"].map((role) => asPod(
    { ...o, spec: { replicas: o.spec.instances } },
    { spec: { containers: [] } },
    {
      labels: { "cnpg.io/cluster": o.metadata.name, "cnpg.io/podRole": "instance", "cnpg.io/instanceRole": role },
      ports: [["postgresql", 5432], ["metrics", 9187], ["status", 8000]].map(([name, port]) => ({ name, port })),
    })),
  Pooler: (o) => [asPod(
    { ...o, spec: { replicas: o.spec.instances } }, o.spec.template,
    {
      labels: { "cnpg.io/poolerName": o.metadata.name, "cnpg.io/podRole": "pooler" },
      ports: [["pgbouncer", 5432], ["metrics", 9127]].map(([name, port]) => ({ name, port })),
    })],
};

export function model(objects) {
  const of = (...kinds) => objects.filter((o) => kinds.includes(o.kind));
  const pods = [
    ...of("Deployment", "StatefulSet", "Job").flatMap(workloadPods),
    ...of("Cluster", "Pooler").flatMap((o) => operatorPods[o.kind](o)),
  ];
  const services = [
    ...of("Service"),
    ...of("Pooler").map((o) => ({
      kind: "Service", metadata: o.metadata,
      spec: { selector: { "cnpg.io/poolerName": o.metadata.name }, ports: [{ port: 5432, targetPort: "pgbouncer" }] },
    })),
  ];
  return { objects, of, pods, services };
}

// A LabelSelector, or the map of a Service.
export function matches(selector, labels) {
  const { matchLabels = {}, matchExpressions = [] } = selector;
  const operators = {
    In: (e) => e.values.includes(labels[e.key]),
    NotIn: (e) => !e.values.includes(labels[e.key]),
    Exists: (e) => e.key in labels,
    DoesNotExist: (e) => !(e.key in labels),
  };
  return Object.entries(matchLabels).every(([k, v]) => labels[k] === v) &&
    matchExpressions.every((e) => operators[e.operator](e));
}

export const select = (pods, selector) => pods.filter((p) => matches(selector, p.labels));

export const hasPort = (pod, port) => pod.ports.some((p) => p.name === port || p.port === port);

export const portNumber = (pod, port) => pod.ports.find((p) => p.name === port || p.port === port)?.port;

// Every object below, with the key that it is under.
export function* walk(value, key = "") {
  if (value === null || typeof value !== "object") return;
  yield [key, value];
  for (const [k, v] of Object.entries(value)) yield* walk(v, Array.isArray(value) ? key : k);
}
