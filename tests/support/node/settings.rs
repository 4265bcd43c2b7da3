//! Settings of containerd, its network plugins and the kubelet. PURE: functions from paths to text.

use std::path::Path;

use serde_json::json;

use super::preflight::CNI;

/// Address of the node, of its receivers, and where pods come from.
pub(crate) const NODE_IP: &str = "10.99.0.1";
/// Where containerd listens, inside the namespaces.
pub(crate) const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// The image that holds the namespaces of a pod.
pub(crate) const PAUSE: &str = "test.local/pause:1";

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

/// `cni/10-node.conflist`: a link from each pod to the node, and a default route over it.
pub(crate) fn network() -> String {
    let addresses = json!({
        "type": "host-local",
        "dataDir": "/run/addresses",
        "ranges": [[{"subnet": "10.244.0.0/22"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
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
