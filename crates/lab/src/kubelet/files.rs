//! What a pod finds in the place of its node's files, and in its environment, as kubelet gives it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use portolan_apiserver::Resource;
use portolan_controllers::{ClusterDns, HostName, Naming, ResolvConf, hosts, hosts_on_host_network};
use serde_json::Value;

use super::{Setting, text};
use crate::Error;
use crate::sandbox::RESOLV_CONF;

/// The cluster's domain.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// The Service of the cluster's DNS.
const DNS: (&str, &str) = ("kube-system", "kube-dns");
/// Where a pod finds what it asks the API server with.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What pods ask the API server with.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceAccount {
    /// A bearer token, the same for all pods.
    pub(crate) token: String,
    /// The certificate of the server's authority, as PEM.
    pub(crate) ca_pem: String,
}

/// Files of a pod, written.
#[derive(Debug)]
pub(super) struct Files {
    /// What `hostname` prints.
    pub(super) host_name: String,
    /// Its own, and where they are in it.
    pub(super) places: Vec<(PathBuf, PathBuf)>,
}

/// The folder of a pod's files.
pub(super) fn folder(setting: &Setting, uid: &str) -> PathBuf {
    // A uid is the server's, so it is no path.
    setting.folder.join(uid)
}

/// Writes the files of a pod: `/etc/hosts`, `/etc/resolv.conf`, and its service account.
pub(super) fn write(
    setting: &Setting,
    pod: &Value,
    node: &str,
    addresses: &[IpAddr],
) -> Result<Files, Error> {
    let metadata = &pod["metadata"];
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    let naming = portolan_source::naming(&pod["spec"]).map_err(|issues| Error::Spec {
        pod: format!("{namespace}/{name}"),
        what: issues.first().map_or_else(String::new, |issue| format!("{}: {}", issue.field, issue.message)),
    })?;
    // As kubelet is configured: with one address, which the pod can reach.
    let service = setting.objects.get(Resource::Services, DNS.0, DNS.1).unwrap_or_default();
    let servers = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    let mut servers = servers.filter_map(|address| text(address).parse::<IpAddr>().ok());
    let reached = |server: &IpAddr| addresses.iter().any(|own| own.is_ipv4() == server.is_ipv4());
    let servers = servers.find(reached).into_iter().collect();
    let cluster = ClusterDns { servers, domain: CLUSTER_DOMAIN.to_owned() };
    let of_node = ResolvConf::parse(RESOLV_CONF);
    let resolv_conf = ResolvConf::of_pod(&naming, namespace, &cluster, &of_node).to_string();
    let (host_name, hosts) = host_files(&naming, namespace, name, node, addresses)?;

    let folder = folder(setting, text(&metadata["uid"]));
    let account = folder.join("serviceaccount");
    let mut places = Vec::new();
    create(&account)?;
    for (file, content, place) in
        [("hosts", &hosts, "/etc/hosts"), ("resolv.conf", &resolv_conf, "/etc/resolv.conf")]
    {
        put(&folder.join(file), content)?;
        // A mount needs something in its place. Where the machine has none, the pod has none.
        if Path::new(place).exists() {
            places.push((folder.join(file), place.into()));
        }
    }
    if pod["spec"]["automountServiceAccountToken"] != false {
        put(&account.join("token"), &setting.account.token)?;
        put(&account.join("ca.crt"), &setting.account.ca_pem)?;
        put(&account.join("namespace"), namespace)?;
        // `/run` is the lab's own, and `/var/run` leads there.
        create(Path::new(ACCOUNT))?;
        places.push((account, ACCOUNT.into()));
    }
    Ok(Files { host_name, places })
}

fn host_files(
    naming: &Naming,
    namespace: &str,
    name: &str,
    node: &str,
    addresses: &[IpAddr],
) -> Result<(String, String), Error> {
    let aliases = &naming.aliases;
    if naming.host_network {
        // Without one there is nothing to take over.
        let of_node = fs::read_to_string("/etc/hosts").unwrap_or_default();
        return Ok((node.to_owned(), hosts_on_host_network(&of_node, aliases)));
    }
    let own = HostName::of_pod(naming, namespace, name, CLUSTER_DOMAIN);
    let kernel = own
        .kernel()
        .map_err(|too_long| Error::HostName { pod: format!("{namespace}/{name}"), name: too_long.0 })?;
    Ok((kernel, hosts(addresses, &own, aliases)))
}

/// Variables that kubelet gives every container: where the API server is, and the Services of the
/// pod's namespace, unless it does not want those.
pub(super) fn environment(setting: &Setting, namespace: &str, pod: &Value) -> Vec<(String, String)> {
    let objects = &setting.objects;
    let mut variables = Vec::new();
    if pod["spec"]["enableServiceLinks"] != false {
        let of_namespace = objects.select(Resource::Services, Some(namespace), "", "").unwrap_or_default();
        for service in of_namespace {
            variables.extend(of_service(&service));
        }
    }
    if let Some(kubernetes) = objects.get(Resource::Services, "default", "kubernetes") {
        variables.extend(of_service(&kubernetes));
    }
    variables
}

/// `WEB_SERVICE_HOST` and its kin.
fn of_service(service: &Value) -> Vec<(String, String)> {
    let name = text(&service["metadata"]["name"]).to_uppercase().replace('-', "_");
    let host = text(&service["spec"]["clusterIP"]);
    if host.parse::<IpAddr>().is_err() {
        return Vec::new();
    }
    let mut variables = vec![(format!("{name}_SERVICE_HOST"), host.to_owned())];
    for (number, port) in service["spec"]["ports"].as_array().into_iter().flatten().enumerate() {
        let value = port["port"].to_string();
        if number == 0 {
            variables.push((format!("{name}_SERVICE_PORT"), value.clone()));
        }
        let port_name = text(&port["name"]).to_uppercase().replace('-', "_");
        if !port_name.is_empty() {
            variables.push((format!("{name}_SERVICE_PORT_{port_name}"), value));
        }
    }
    variables
}

fn create(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io(format!("creating {}", folder.display())))
}

fn put(file: &Path, content: &str) -> Result<(), Error> {
    fs::write(file, content).map_err(Error::io(format!("writing {}", file.display())))
}
