//! A Kubernetes control plane on loopback ports, without root: etcd, kube-apiserver and kube-controller-manager, built by
//! `make tools`. Nothing runs pods, unless a node is to come: then there is a kube-scheduler as well.
//!
//! Input: nothing. Output: its API, kubectl for it, and the webhook under test registered with it ([`Injector`]).

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

#[path = "control_plane/api.rs"]
pub(crate) mod api;
#[path = "control_plane/capture.rs"]
pub(crate) mod capture;
#[path = "control_plane/controller.rs"]
pub(crate) mod controller;
#[path = "control_plane/definitions.rs"]
pub(crate) mod definitions;
#[path = "control_plane/faults.rs"]
pub(crate) mod faults;
#[path = "control_plane/hook.rs"]
pub(crate) mod hook;
#[path = "https.rs"]
pub(crate) mod https;
#[path = "control_plane/injector.rs"]
pub(crate) mod injector;
#[path = "control_plane/leash.rs"]
pub(crate) mod leash;
#[path = "control_plane/monitors.rs"]
pub(crate) mod monitors;
#[path = "control_plane/wire.rs"]
pub(crate) mod wire;
#[path = "control_plane/workloads.rs"]
pub(crate) mod workloads;

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use api::Api;
use https::PATIENCE;
use leash::Leash;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The module that pins the version of everything here.
const MODULE: &str = include_str!("../tools/kubernetes/go.mod");
const ADMIN: &str = "admin-token";
/// Who has a token and a kubeconfig: file name, user and groups.
const USERS: [(&str, &str, &str); 4] = [
    ("admin", "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("node", "system:node:node", "system:nodes"),
];
/// Those that make pods, and those that namespaces, accounts and quotas need.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,statefulset-controller,daemonset-controller,\
    job-controller,cronjob-controller,serviceaccount-controller,resourcequota-controller,namespace-controller,\
    garbage-collector-controller";
/// Those that running pods need beside them: for a node that is ready, addresses of Services, the CA beside every token.
const NODE_CONTROLLERS: &str = "node-lifecycle-controller,endpointslice-controller,endpoints-controller,\
    root-ca-certificate-publisher-controller";

/// A running control plane. It ends when this is dropped, and with the test process in any case.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    pub(crate) api: Api,
    // In the order in which they end: whoever writes into the directory, then the directory.
    processes: Vec<Leash>,
    /// Of etcd, for clients and peers, and of the API server.
    ports: [u16; 3],
    directory: PathBuf,
    _cleaner: Leash,
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl ControlPlane {
    /// The one of this test binary, started for the first test that asks.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::start(None)).await
    }

    /// Starts one; `node` is the address of the node that will run its pods, which is then the API server's as well: pods do
    /// not reach the loopback of others.
    pub(crate) async fn start(node: Option<IpAddr>) -> Self {
        Self::start_with(node, None).await
    }

    /// Starts one that keeps every request of a namespace's service accounts; [`Self::audit_log`] has them.
    pub(crate) async fn start_audited(namespace: &str) -> Self {
        Self::start_with(None, Some(namespace)).await
    }

    async fn start_with(node: Option<IpAddr>, audited: Option<&str>) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let directory = tempfile::Builder::new().prefix("control-plane-").tempdir_in(root).unwrap().keep();
        let cleaner = Leash::directory(&directory);
        let ports = free_ports();
        let [etcd, peers, api] = ports;
        write_credentials(&directory);
        let audit = audited.map(|namespace| write_audit_policy(&directory, namespace)).unwrap_or_default();
        let address = SocketAddr::new(node.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), api);
        let mut processes =
            vec![start_etcd(&directory, etcd, peers), start_apiserver(&directory, etcd, address, &audit)];
        let ca = ready(&directory, address, &mut processes).await;
        for (name, _, _) in USERS {
            write_kubeconfig(&directory, name, &token(name), address);
        }
        processes.push(start_controller_manager(&directory, node.is_some()));
        if node.is_some() {
            processes.push(start_scheduler(&directory));
        }
        Self { api: Api { address, ca, token: ADMIN }, processes, ports, directory, _cleaner: cleaner }
    }

    /// Kills the API server.
    pub(crate) fn end_apiserver(&mut self) {
        drop(self.processes.remove(1));
    }

    /// Starts it again, as it was, but for an audit log.
    pub(crate) async fn begin_apiserver(&mut self) {
        let [etcd, ..] = self.ports;
        self.processes.insert(1, start_apiserver(&self.directory, etcd, self.api.address, &[]));
        ready(&self.directory, self.api.address, &mut self.processes).await;
    }

    /// Kills etcd.
    pub(crate) fn end_etcd(&mut self) {
        drop(self.processes.remove(0));
    }

    /// Starts it again with its data.
    pub(crate) async fn begin_etcd(&mut self) {
        let [etcd, peers, _] = self.ports;
        self.processes.insert(0, start_etcd(&self.directory, etcd, peers));
        ready(&self.directory, self.api.address, &mut self.processes).await;
    }

    /// A new directory that goes with the control plane.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// The audit log so far, an event a line.
    pub(crate) fn audit_log(&self) -> String {
        fs::read_to_string(audit_log(&self.directory)).unwrap()
    }

    /// A kubeconfig with a token of a service account, as a pod of it would have.
    pub(crate) async fn service_account(&self, namespace: &str, name: &str) -> PathBuf {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let token = self.api.create(&path, &request).await["status"]["token"].as_str().unwrap().to_owned();
        write_kubeconfig(&self.directory, name, &token, self.api.address);
        self.kubeconfig(name)
    }

    /// How one of [`USERS`] reaches the API server.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        kubeconfig(&self.directory, user)
    }

    /// Runs kubectl as administrator with this input.
    pub(crate) async fn kubectl(&self, arguments: &[&str], input: &str) -> Printed {
        let mut command = Command::new(tool("kubectl"));
        command
            .env_clear()
            .env("HOME", &self.directory)
            .arg("--kubeconfig")
            .arg(self.kubeconfig("admin"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = input.to_owned();
        // The webhooks of the test answer on this thread meanwhile.
        let run = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("kubectl starts");
            child.stdin.take().expect("input is piped").write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = https::soon(run).await.unwrap();
        Printed {
            code: output.status.code().expect("kubectl is not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A program that `make tools` builds.
pub(crate) fn tool(name: &str) -> PathBuf {
    let version = MODULE.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    let version = version.expect("the module requires Kubernetes").split(' ').next().unwrap_or_default();
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(".cache/tools/kubernetes-{version}/{name}"))
}

/// Ports that nothing listens on. They lie below those that the kernel gives to whoever asks for any. Test processes run
/// side by side, and a server takes a while until it listens: a socket of another protocol keeps the port for this process.
fn free_ports<const N: usize>() -> [u16; N] {
    static KEPT: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().unwrap();
    let begin = 10_000 + u16::try_from(std::process::id() % 1_000).expect("it is below 1000") * 20;
    let mut free = (begin..32_000).filter(|port| {
        let socket = UdpSocket::bind(("127.0.0.1", *port));
        let is_free = socket.is_ok() && TcpListener::bind(("127.0.0.1", *port)).is_ok();
        kept.extend(socket);
        is_free
    });
    std::array::from_fn(|_| free.next().expect("some port is free"))
}

/// Keys and tokens, for as long as the control plane lives.
fn write_credentials(directory: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(directory.join("service-accounts.key"), key.serialize_pem()).unwrap();
    fs::write(directory.join("service-accounts.pub"), key.public_key_pem()).unwrap();
    let tokens = USERS.map(|(name, user, groups)| format!("{},{user},{name},{groups}\n", token(name)));
    fs::write(directory.join("tokens.csv"), tokens.concat()).unwrap();
}

/// The token of one of [`USERS`].
fn token(name: &str) -> String {
    format!("{name}-token")
}

fn kubeconfig(directory: &Path, user: &str) -> PathBuf {
    directory.join(format!("{user}.kubeconfig"))
}

fn write_kubeconfig(directory: &Path, user: &str, token: &str, api: SocketAddr) {
    let cluster =
        json!({"server": format!("https://{api}"), "certificate-authority": certificate(directory)});
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "current-context": "test",
    });
    fs::write(kubeconfig(directory, user), config.to_string()).unwrap();
}

/// Where the API server writes its certificate, which it signs itself.
fn certificate(directory: &Path) -> PathBuf {
    directory.join("apiserver/apiserver.crt")
}

fn start(directory: &Path, name: &str, arguments: &[String]) -> Leash {
    let log = File::create(directory.join(format!("{name}.log"))).unwrap();
    Leash::program(&tool(name), arguments, (Stdio::from(log.try_clone().unwrap()), Stdio::from(log)))
}

fn start_etcd(directory: &Path, clients: u16, peers: u16) -> Leash {
    let (clients, peers) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
    let arguments = [
        "--name=test".to_owned(),
        format!("--data-dir={}", directory.join("etcd").display()),
        // Nothing here has to outlive a power failure.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=test={peers}"),
    ];
    start(directory, "etcd", &arguments)
}

fn audit_log(directory: &Path) -> PathBuf {
    directory.join("audit.log")
}

/// Who asked for what, without contents; gives the API server's flags for it. A watch is written down when it begins.
fn write_audit_policy(directory: &Path, namespace: &str) -> Vec<String> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "userGroups": [format!("system:serviceaccounts:{namespace}")]},
            {"level": "None"},
        ],
    });
    let path = directory.join("audit-policy.json");
    fs::write(&path, policy.to_string()).unwrap();
    vec![
        format!("--audit-policy-file={}", path.display()),
        format!("--audit-log-path={}", audit_log(directory).display()),
    ]
}

fn start_apiserver(directory: &Path, etcd: u16, address: SocketAddr, more: &[String]) -> Leash {
    let path = |name: &str| directory.join(name).display().to_string();
    let arguments = [
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        format!("--bind-address={}", address.ip()),
        format!("--secure-port={}", address.port()),
        format!("--cert-dir={}", path("apiserver")),
        // It refuses to advertise a loopback address.
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", path("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", path("service-accounts.key")),
        format!("--token-auth-file={}", path("tokens.csv")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        // What a node needs: logs of its pods, and Services that lead to pods without a kube-proxy.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--enable-aggregator-routing=true".to_owned(),
    ];
    start(directory, "kube-apiserver", &[&arguments, more].concat())
}

fn start_controller_manager(directory: &Path, node: bool) -> Leash {
    let kubeconfig = kubeconfig(directory, "controller-manager").display().to_string();
    let controllers = if node { format!("{CONTROLLERS},{NODE_CONTROLLERS}") } else { CONTROLLERS.to_owned() };
    let arguments = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        // Without them the controllers may do nothing.
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", directory.join("service-accounts.key").display()),
        format!("--root-ca-file={}", certificate(directory).display()),
        format!("--controllers={controllers}"),
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=500".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ];
    start(directory, "kube-controller-manager", &arguments)
}

fn start_scheduler(directory: &Path) -> Leash {
    let kubeconfig = kubeconfig(directory, "scheduler").display().to_string();
    let arguments = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ];
    start(directory, "kube-scheduler", &arguments)
}

/// Waits until the API server is ready; gives its certificate.
async fn ready(directory: &Path, address: SocketAddr, processes: &mut [Leash]) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Ok(ca) = fs::read_to_string(certificate(directory))
            && let api = (Api { address, ca, token: ADMIN })
            && api.stream().await.is_ok()
            && api.send("GET", "/readyz", &Value::Null).await.status == 200
        {
            return api.ca;
        }
        for (process, name) in processes.iter_mut().zip(["etcd", "kube-apiserver"]) {
            let log = || fs::read_to_string(directory.join(format!("{name}.log"))).unwrap_or_default();
            assert!(process.ended().is_none(), "{name} ended before it was ready:\n{}", log());
            assert!(Instant::now() < end, "the API server does not get ready; {name} says:\n{}", log());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
