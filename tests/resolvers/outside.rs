//! Names outside the cluster: the server that questions are forwarded to.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;

use portolan_lab::netns::Namespace;
use portolan_names::wire::{Name, kind};

/// Each name has these addresses. All other names are not there.
const NAMES: &[(&str, &[&str])] = &[
    ("www.example.com.", &["192.0.2.80", "2001:db8::80"]),
    ("only-v4.example.com.", &["192.0.2.4"]),
    // The fourth domain that pods search.
    ("intra.corp.example.", &["192.0.2.99", "2001:db8::99"]),
];
const NXDOMAIN: u8 = 3;

/// Answers at `at` until the process ends.
pub(crate) fn answer(namespace: &Namespace, at: SocketAddr) -> anyhow::Result<()> {
    let socket = namespace.run(|| UdpSocket::bind(at))??;
    thread::Builder::new().name("outside".to_owned()).spawn(move || {
        let mut octets = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut octets) {
            if let Some(message) = answered(&octets[..length]) {
                // Whoever asked asks again.
                let _ = socket.send_to(&message, from);
            }
        }
    })?;
    Ok(())
}

/// The answer to `message`, without its additional section.
fn answered(message: &[u8]) -> Option<Vec<u8>> {
    let (mut name, end) = Name::read(message, 12).ok()?;
    let asked = u16::from_be_bytes([*message.get(end)?, *message.get(end + 1)?]);
    let mut answer = message.get(..end + 4)?.to_vec();
    (answer[2], answer[3]) = (0x81, 0x80);
    answer[6..12].fill(0);
    name.make_lowercase();
    let name = name.to_string();
    let Some((_, addresses)) = NAMES.iter().find(|(known, _)| *known == name) else {
        answer[3] |= NXDOMAIN;
        return Some(answer);
    };
    for address in addresses.iter().filter_map(|text| text.parse().ok()) {
        let data = match address {
            IpAddr::V4(address) if asked == kind::A => address.octets().to_vec(),
            IpAddr::V6(address) if asked == kind::AAAA => address.octets().to_vec(),
            _ => continue,
        };
        answer[7] += 1;
        // The owner is the question's name; class IN, for 20 s.
        answer.extend([0xc0, 12]);
        answer.extend(asked.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 20, 0]);
        answer.push(u8::try_from(data.len()).ok()?);
        answer.extend(data);
    }
    Some(answer)
}
