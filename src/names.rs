//! Every name that promsidecar shares with users, pods, Prometheus or the API server. PURE: constants only.
//!
//! Input: nothing. Output: annotation and label keys, container and volume names, paths inside the agent's container and
//! the table of facts that are known only when a pod runs.

/// Prefix of all annotation and label keys that are ours.
pub const PREFIX: &str = "sidecar.prometheus.io/";

/// Pod annotation and namespace label: the request itself.
pub const INJECT: &str = "sidecar.prometheus.io/inject";
/// Pod annotation and namespace label: deny the pod rather than admit it without its agent.
pub const REQUIRED: &str = "sidecar.prometheus.io/required";
/// Pod annotation: ports to scrape, as numbers or names, separated by commas.
pub const PORT: &str = "sidecar.prometheus.io/port";
/// Pod annotation: HTTP path of the metrics.
pub const PATH: &str = "sidecar.prometheus.io/path";
/// Pod annotation: `http` or `https`.
pub const SCHEME: &str = "sidecar.prometheus.io/scheme";
/// Pod annotation: scrape interval, a Prometheus duration.
pub const INTERVAL: &str = "sidecar.prometheus.io/interval";
/// Pod annotation: scrape timeout, a Prometheus duration.
pub const TIMEOUT: &str = "sidecar.prometheus.io/timeout";
/// Namespace annotation: which template the namespace's pods use. On a `ConfigMap` of ours: what it is rendered from.
pub const TEMPLATE: &str = "sidecar.prometheus.io/template";
/// Namespace annotation: Secrets and `ConfigMap`s that templates of other namespaces may use.
pub const ALLOWED_SECRETS: &str = "sidecar.prometheus.io/allowed-secrets";
/// Template annotation: which other namespaces may use it.
pub const ALLOWED_NAMESPACES: &str = "sidecar.prometheus.io/allowed-namespaces";
/// Template annotation: `auto`, `native` or `container`.
pub const MODE: &str = "sidecar.prometheus.io/mode";
/// Template annotation: `auto`, `always` or `never`.
pub const SUPERVISE: &str = "sidecar.prometheus.io/supervise";
/// Template annotation: whether the agent scrapes a handful of its own metrics.
pub const SELF_MONITOR: &str = "sidecar.prometheus.io/self-monitor";
/// Pod annotation, ours: what was injected (a versioned JSON object).
pub const STATUS: &str = "sidecar.prometheus.io/status";
/// Pod annotation, ours: the agent's targets in file-based service discovery format.
pub const TARGETS: &str = "sidecar.prometheus.io/targets";
/// Pod annotation, ours: why a pod that asked was not injected.
pub const SKIPPED: &str = "sidecar.prometheus.io/skipped";
/// Pod label, ours: `true` on injected pods, `false` on pods that asked and were not.
pub const INJECTED: &str = "sidecar.prometheus.io/injected";
/// Claims an upstream `PrometheusAgent` for one controller; prometheus-operator ≥ 0.73 leaves foreign ones alone.
pub const CONTROLLER_ID: &str = "operator.prometheus.io/controller-id";
/// The default value of [`CONTROLLER_ID`].
pub const DEFAULT_CONTROLLER_ID: &str = "promsidecar";
/// Tells the cluster autoscaler which local volumes may be lost.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Label of Kubernetes: what manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`] on the objects that we write.
pub const MANAGER: &str = "promsidecar";
/// Field manager of what the controller writes.
pub const FIELD_MANAGER: &str = "promsidecar-controller";
/// The Lease of our own namespace that the controller which writes holds.
pub const LEASE: &str = "promsidecar-controller";
/// The webhook's Service, as it is shipped.
pub const SERVICE: &str = "promsidecar-webhook";
/// The Secret with the webhook's certificate, as it is shipped.
pub const TLS_SECRET: &str = "promsidecar-webhook-tls";
/// Annotation of [`TLS_SECRET`]: a value that was not there before asks for another authority.
pub const ROTATE: &str = "sidecar.prometheus.io/rotate";
/// Annotation of [`TLS_SECRET`]: the value of [`ROTATE`] when an authority was made last.
pub const ROTATED: &str = "sidecar.prometheus.io/rotated";
/// Annotation of the webhook's registration: of which certificate its bundles were made.
pub const CERTIFICATE: &str = "sidecar.prometheus.io/certificate";
/// The webhook's registration, as it is shipped.
pub const REGISTRATION: &str = "promsidecar";
/// On definitions of prometheus-operator: which version of it they come with.
pub const OPERATOR_VERSION: &str = "operator.prometheus.io/version";
/// Marks mirror pods of static pods; they are never patched.
pub const MIRROR_POD: &str = "kubernetes.io/config.mirror";
/// Namespace annotation of `OpenShift`: `first/length` of the user ids that its pods may use.
pub const OPENSHIFT_UID_RANGE: &str = "openshift.io/sa.scc.uid-range";

/// Prefix of the well-known annotations of the community scrape job.
pub const COMMUNITY_PREFIX: &str = "prometheus.io/";

/// Name of the agent's container.
pub const CONTAINER: &str = "prometheus-agent";
/// Projected volume: configuration, credentials and targets.
pub const VOLUME_CONFIG: &str = "promsidecar";
/// `emptyDir` with the agent's write-ahead log.
pub const VOLUME_WAL: &str = "promsidecar-wal";
/// Memory `emptyDir` that shadows the service account token.
pub const VOLUME_NO_TOKEN: &str = "promsidecar-notoken";
/// Name of the agent's port where it listens on a fixed one.
pub const PORT_NAME: &str = "promsidecar";
/// First choice of that port; the next numbers are tried where the pod declares it.
pub const PORT_NUMBER: u16 = 19095;

/// Where the projected volume is mounted.
pub const CONFIG_DIR: &str = "/etc/promsidecar";
/// The agent's configuration file.
pub const CONFIG_FILE: &str = "/etc/promsidecar/prometheus.yml";
/// Key of the configuration in its `ConfigMap` and its path below [`CONFIG_DIR`].
pub const CONFIG_KEY: &str = "prometheus.yml";
/// Path of the targets below [`CONFIG_DIR`]; alone in its directory, since Prometheus re-reads on any event beside it.
pub const TARGETS_PATH: &str = "targets/pod.json";
/// Glob that the scrape jobs read, relative to the configuration file.
pub const TARGETS_GLOB: &str = "targets/*.json";
/// Where the write-ahead log is mounted.
pub const WAL_DIR: &str = "/promsidecar/wal";
/// Where the API server would mount the application's token.
pub const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Prefix of labels that exist only inside one agent: external labels with the pod's identity.
pub const INTERNAL_LABEL_PREFIX: &str = "__promsidecar_";
/// Target label: where a target group comes from; absent on the groups that pod discovery would have made.
pub const META_SOURCE: &str = "__meta_promsidecar_source";
/// Value of [`META_SOURCE`] for hints by annotation.
pub const SOURCE_ANNOTATION: &str = "annotation";
/// Value of [`META_SOURCE`] for the one group without a port, for jobs that bring their own.
pub const SOURCE_ANCHOR: &str = "anchor";
/// Target label of the group without a port: numbers of the ports that containers declare, with commas around each.
pub const META_PORTS: &str = "__meta_promsidecar_ports";
/// Value of [`META_SOURCE`] for the agent itself.
pub const SOURCE_AGENT: &str = "agent";
/// Target label of annotation groups: scrape interval in whole milliseconds, digits only.
pub const META_INTERVAL_MS: &str = "__meta_promsidecar_scrape_interval_ms";
/// Target label of annotation groups: scrape timeout in whole milliseconds, digits only.
pub const META_TIMEOUT_MS: &str = "__meta_promsidecar_scrape_timeout_ms";
/// Job over the annotation groups.
pub const JOB_ANNOTATIONS: &str = "promsidecar/annotations";
/// Job over the agent's own metrics.
pub const JOB_AGENT: &str = "promsidecar/agent";

/// A fact about a pod that is not known at admission and reaches the agent through its environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeFact {
    /// Environment variable of the agent's container.
    pub env: &'static str,
    /// Downward API field that fills it.
    pub field_path: &'static str,
    /// External label through which the value enters the configuration (environment is expanded nowhere else).
    pub external_label: &'static str,
    /// Meta label of pod discovery that carries it.
    pub meta_label: &'static str,
    /// Value of the meta label until remote write puts the real one in its place.
    pub placeholder: &'static str,
}

/// All of them. A name is written as it is where it is known (a pod without `generateName`).
pub const RUNTIME_FACTS: [RuntimeFact; 5] = [POD_NAME, POD_IP, NODE_NAME, POD_UID, HOST_IP];
/// The pod's name.
pub const POD_NAME: RuntimeFact = RuntimeFact {
    env: "POD_NAME",
    field_path: "metadata.name",
    external_label: "__promsidecar_pod_name",
    meta_label: "__meta_kubernetes_pod_name",
    placeholder: "__POD_NAME__",
};
/// The pod's primary address.
pub const POD_IP: RuntimeFact = RuntimeFact {
    env: "POD_IP",
    field_path: "status.podIP",
    external_label: "__promsidecar_pod_ip",
    meta_label: "__meta_kubernetes_pod_ip",
    placeholder: "__POD_IP__",
};
/// The node's name.
pub const NODE_NAME: RuntimeFact = RuntimeFact {
    env: "NODE_NAME",
    field_path: "spec.nodeName",
    external_label: "__promsidecar_node_name",
    meta_label: "__meta_kubernetes_pod_node_name",
    placeholder: "__NODE_NAME__",
};
/// The pod's UID.
pub const POD_UID: RuntimeFact = RuntimeFact {
    env: "POD_UID",
    field_path: "metadata.uid",
    external_label: "__promsidecar_pod_uid",
    meta_label: "__meta_kubernetes_pod_uid",
    placeholder: "__POD_UID__",
};
/// The node's address.
pub const HOST_IP: RuntimeFact = RuntimeFact {
    env: "HOST_IP",
    field_path: "status.hostIP",
    external_label: "__promsidecar_host_ip",
    meta_label: "__meta_kubernetes_pod_host_ip",
    placeholder: "__HOST_IP__",
};

/// Annotation on a `ConfigMap` of ours: since when nobody uses it, RFC 3339.
pub const UNUSED_SINCE: &str = "sidecar.prometheus.io/unused-since";
/// Label of the `ConfigMap`s that keep the last good version of a template, in our own namespace.
pub const LAST_GOOD: &str = "sidecar.prometheus.io/last-good";
/// Key of the object in such a `ConfigMap`.
pub const LAST_GOOD_KEY: &str = "template.json";
