//! Settings of containerd, its network plugins and the kubelet. PURE: functions from paths to text.

use std::path::Path;

use serde_json::json;

use super::preflight::CNI;

/// Address of the node, of its receivers, and where pods come from.
pub(crate) const NODE_IP: &str = "10.99.0.1";
/// The node's other address, where pods have two.
const NODE_IPV6: &str = "fd00:99::1";
/// Where containerd listens, inside the namespaces.
pub(crate) const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// The image that holds the namespaces of a pod.
pub(crate) const PAUSE: &str = "test.local/pause:1";

/// Addresses of a node and its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    /// Both, that of a pod's `status.podIP` is IPv6. Receivers and API server are reached by the other.
    V6First,
}

impl Family {
    /// The node's, as its link gets them.
    pub(crate) fn links(self) -> Vec<String> {
        let both = [format!("{NODE_IP}/24"), format!("{NODE_IPV6}/64")];
        both.into_iter().take(if self == Self::V4 { 1 } else { 2 }).collect()
    }

    /// The kubelet's `--node-ip`.
    pub(crate) fn node_ip(self) -> String {
        match self {
            Self::V4 => NODE_IP.to_owned(),
            Self::V6First => format!("{NODE_IPV6},{NODE_IP}"),
        }
    }

    /// Where a server listens that is to be reached by all of them.
    pub(crate) fn any(self) -> &'static str {
        match self {
            Self::V4 => "0.0.0.0",
            Self::V6First => "[::]",
        }
    }

    /// Where pods get theirs from, and the way out of each.
    fn pods(self) -> Vec<(&'static str, &'static str)> {
        let mut pods = vec![("10.244.0.0/22", "0.0.0.0/0")];
        if self == Self::V6First {
            pods.push(("fd00:244::/64", "::/0"));
        }
        pods
    }
}

/// `containerd.toml`. It may not lower anybody's OOM score (that takes `CAP_SYS_RESOURCE`, which containers lack).
pub(crate) fn containerd(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"version = 2
root = "{directory}/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{directory}/cni"
"#
    )
}

/// `cni/10-node.conflist`: a link from each pod to the node, and default routes over it.
pub(crate) fn network(family: Family) -> String {
    let pods = family.pods();
    let ranges: Vec<_> = pods.iter().map(|(subnet, _)| json!([{"subnet": subnet}])).collect();
    let routes: Vec<_> = pods.iter().map(|(_, route)| json!({"dst": route})).collect();
    let addresses =
        json!({"type": "host-local", "dataDir": "/run/addresses", "ranges": ranges, "routes": routes});
    let plugin = json!({"type": "ptp", "ipMasq": false, "ipam": addresses});
    json!({"cniVersion": "0.4.0", "name": "node", "plugins": [plugin]}).to_string()
}

/// The kubelet's `--config`. Nobody but the API server in the same network namespace reaches it, so it asks nobody who
/// calls. Changes of `ConfigMap`s and Secrets reach a pod at its next synchronisation.
pub(crate) fn kubelet(directory: &Path, cgroup: &str) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "readOnlyPort": 0,
        "healthzPort": 0,
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        "localStorageCapacityIsolation": false,
        "enableControllerAttachDetach": false,
        "podLogsDir": path("pod-logs"),
        "volumePluginDir": path("volume-plugins"),
        "syncFrequency": "1s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "evictionHard": {"memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
        "resolvConf": "",
        "clusterDNS": ["10.0.0.10"],
    })
    .to_string()
}
