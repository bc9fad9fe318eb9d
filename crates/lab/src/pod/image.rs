//! What runs for an image: nothing is ever fetched.

use super::spec::Container;
use crate::responder::Page;
use crate::search_path::find;

/// What a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Runs {
    /// A program of the machine, with its arguments.
    Program(Vec<String>),
    /// The DNS of the cluster.
    Dns,
    /// The built-in server.
    Server(Server),
}

/// What the built-in server answers, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) page: Page,
    /// Ports of TCP.
    pub(super) ports: Vec<u16>,
    /// Ports of UDP.
    pub(super) datagrams: Vec<u16>,
    /// For so many seconds it goes on once it is to end.
    pub(super) linger: u64,
}

impl Server {
    /// One that answers on these ports, over UDP too if its page has answers to datagrams, and ends
    /// at once.
    fn new(page: Page, ports: Vec<u16>) -> Server {
        let datagrams = if page.takes_datagrams() { ports.clone() } else { Vec::new() };
        Server { page, ports, datagrams, linger: 0 }
    }
}

/// What nginx answers until it is configured.
const NGINX: &str = "<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>\n</head>\n<body>\n\
     <h1>Welcome to nginx!</h1>\n<p>If you see this page, nginx is successfully installed and working.\n\
     Further configuration is required.</p>\n</body>\n</html>\n";

/// The name of an image: the last part, without tag and digest.
fn name(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

/// What runs for a container, and a note for people where the lab does not know its image.
pub(super) fn runs(container: &Container) -> (Runs, Option<String>) {
    let name = name(&container.image);
    let declared: Vec<u16> =
        container.ports.iter().map(|port| port.container_port).filter(|port| *port > 0).collect();
    let or = |usual: u16| if declared.is_empty() { vec![usual] } else { declared.clone() };
    let server = |page: Page, ports: Vec<u16>| (Runs::Server(Server::new(page, ports)), None);
    let is_agnhost = matches!(name, "agnhost" | "netexec" | "serve-hostname" | "serve_hostname");
    let is_server =
        is_agnhost && container.command.first().is_some_and(|command| command.contains("agnhost"));
    if !container.command.is_empty() && !is_server {
        let whole = container.command.iter().chain(&container.args).cloned();
        return (Runs::Program(whole.collect()), None);
    }
    // The entry points of most images run what they are given. Those of curl's are curl itself.
    if name == "curl" && !container.args.is_empty() {
        let words = ["curl".to_owned()].into_iter().chain(container.args.iter().cloned());
        return (Runs::Program(words.collect()), None);
    }
    if !is_agnhost && container.args.first().is_some_and(|word| find(word).is_some()) {
        return (Runs::Program(container.args.clone()), None);
    }
    let option = |name: &str| option(&container.args, name);
    let port_of = |name: &str| option(name).and_then(|port| port.parse().ok());
    match name {
        "agnhost" => match container.args.first().map(String::as_str) {
            Some("netexec") => {
                let mut server = Server::new(Page::Netexec, vec![port_of("http-port").unwrap_or(8080)]);
                // -1 is none.
                let datagrams = option("udp-port").unwrap_or_else(|| "8081".to_owned()).parse();
                server.datagrams = datagrams.into_iter().collect();
                server.linger = option("delay-shutdown").and_then(|text| text.parse().ok()).unwrap_or(0);
                (Runs::Server(server), None)
            }
            Some("serve-hostname") => {
                server(Page::HostName(String::new()), vec![port_of("port").unwrap_or(9376)])
            }
            _ => server(Page::Facts, vec![]),
        },
        "netexec" => server(Page::Netexec, or(8080)),
        "serve-hostname" | "serve_hostname" => server(Page::HostName(String::new()), or(9376)),
        "nginx" | "nginx-unprivileged" => server(Page::Text(NGINX.to_owned()), or(80)),
        "httpd" => server(Page::Text("<html><body><h1>It works!</h1></body></html>\n".to_owned()), or(80)),
        "hello-app" => {
            let version = if container.image.ends_with(":2.0") { "2.0.0" } else { "1.0.0" };
            let text = format!("Hello, world!\nVersion: {version}\nHostname: ");
            server(Page::HostName(text), or(8080))
        }
        "node-hello" => server(Page::Text("Hello Kubernetes!".to_owned()), or(8080)),
        "http-echo" => {
            let text = option("text").unwrap_or_default();
            let port = option("listen").and_then(|listen| listen.rsplit(':').next()?.parse().ok());
            server(Page::Text(format!("{text}\n")), vec![port.unwrap_or(5678)])
        }
        "portolan-dns" => (Runs::Dns, None),
        "coredns" | "kubedns-amd64" | "k8s-dns-kube-dns" | "k8s-dns-kube-dns-amd64" => {
            let image = &container.image;
            let note = format!("The lab fetches no images: in place of {image}, portolan dns answers");
            (Runs::Dns, Some(note))
        }
        "pause" | "net_tools" | "netshoot" => server(Page::Facts, vec![]),
        _ => web_server(name)
            .map_or_else(|| unknown(container, declared.clone()), |(page, port)| server(page, or(port))),
    }
}

/// What runs for an image that nothing is known of.
fn unknown(container: &Container, ports: Vec<u16>) -> (Runs, Option<String>) {
    let listed = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let place = if listed.is_empty() { "no port".to_owned() } else { format!("port {listed}") };
    let image = &container.image;
    let note = format!(
        "The lab fetches no images: in place of {image} a server of its own answers on {place}; \
         name a program of this machine in command to run that"
    );
    (Runs::Server(Server::new(Page::Facts, ports)), Some(note))
}

/// `web1_8080` and its kin say who they are and where.
fn web_server(name: &str) -> Option<(Page, u16)> {
    let (number, port) = name.strip_prefix("web")?.split_once('_')?;
    let (number, port): (u8, u16) = (number.parse().ok()?, port.parse().ok()?);
    Some((Page::Text(format!("This is Web Server {number} running on {port}!")), port))
}

/// The value of `--name=value`, `-name=value` or `--name value`.
fn option(arguments: &[String], name: &str) -> Option<String> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(rest) = argument.strip_prefix('-') else { continue };
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        match rest.split_once('=') {
            Some((found, value)) if found == name => return Some(value.to_owned()),
            None if rest == name => return arguments.next().cloned(),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::spec::Port;

    /// Image, arguments, containerPorts, and the server's page and ports.
    type Known = (&'static str, &'static [&'static str], &'static [u16], Page, &'static [u16]);

    #[test]
    fn arguments_that_are_a_command_are_one() {
        for (image, args, expected) in [
            ("busybox", &["sh", "-c", "echo hi"][..], Some(&["sh", "-c", "echo hi"][..])),
            ("nginx:1.27", &["sh"], Some(&["sh"])),
            ("curlimages/curl", &["-s", "http://web"], Some(&["curl", "-s", "http://web"])),
            ("mine", &["--port=80"], None),
            ("agnhost", &["pause"], None),
            ("busybox", &[], None),
        ] {
            let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            let container = Container { image: image.to_owned(), args: owned(args), ..Container::default() };
            let program = match runs(&container).0 {
                Runs::Program(words) => Some(words),
                _ => None,
            };
            assert_eq!(program, expected.map(owned), "{image} {args:?}");
        }
    }

    #[test]
    fn known_images() {
        let text = |text: &str| Page::Text(text.to_owned());
        let table: [Known; 11] = [
            ("jonlangemak/web1_9090", &[], &[], text("This is Web Server 1 running on 9090!"), &[9090]),
            (
                "jonlangemak/web2_8080:latest",
                &[],
                &[8080],
                text("This is Web Server 2 running on 8080!"),
                &[8080],
            ),
            ("nginx", &[], &[], text(NGINX), &[80]),
            ("docker.io/library/nginx:1.27@sha256:0", &[], &[8081], text(NGINX), &[8081]),
            ("gcr.io/google-samples/node-hello:1.0", &[], &[8080], text("Hello Kubernetes!"), &[8080]),
            ("hashicorp/http-echo", &["-text=hi", "-listen=:8080"], &[], text("hi\n"), &[8080]),
            ("registry.k8s.io/e2e-test-images/agnhost:2.53", &["netexec"], &[], Page::Netexec, &[8080]),
            ("agnhost", &["netexec", "--http-port", "80"], &[9], Page::Netexec, &[80]),
            ("agnhost", &["serve-hostname", "--port=1"], &[], Page::HostName(String::new()), &[1]),
            ("agnhost", &["pause"], &[], Page::Facts, &[]),
            ("registry:5000/mine/own", &[], &[1, 2], Page::Facts, &[1, 2]),
        ];
        for (image, args, ports, page, expected) in table {
            let container = Container {
                image: image.to_owned(),
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                ports: ports.iter().map(|port| Port { container_port: *port, ..Port::default() }).collect(),
                ..Container::default()
            };
            let (found, note) = runs(&container);
            let Runs::Server(found) = found else { panic!("{image}: {found:?}") };
            assert_eq!((found.page, &*found.ports), (page, expected), "{image}");
            assert_eq!(note.is_some(), image.ends_with("own"), "{image}");
        }
    }

    #[test]
    fn netexec_has_ports_of_its_own_for_datagrams_and_ends_late() {
        for (args, datagrams, linger) in [
            (&["netexec"][..], &[8081][..], 0),
            (&["netexec", "--udp-port=9", "--delay-shutdown=30"], &[9], 30),
            (&["netexec", "--udp-port=-1"], &[], 0),
        ] {
            let container = Container {
                image: "agnhost".to_owned(),
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                ..Container::default()
            };
            let (Runs::Server(found), None) = runs(&container) else { panic!("{args:?}") };
            assert_eq!((&*found.datagrams, found.linger), (datagrams, linger), "{args:?}");
        }
    }

    #[test]
    fn commands_are_of_the_machine() {
        let list = |list: &[&str]| list.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        let container = Container {
            image: "busybox".to_owned(),
            command: list(&["sh", "-c"]),
            args: list(&["sleep 1"]),
            ..Container::default()
        };
        assert_eq!(runs(&container), (Runs::Program(list(&["sh", "-c", "sleep 1"])), None));
    }
}
