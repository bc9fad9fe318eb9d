//! A client that asks as fast as it is answered, or at a steady rate. It checks every answer.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::sample::Sample;

pub(crate) const A: u16 = 1;
const AAAA: u16 = 28;
const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;
/// Questions that wait for their answers at full speed: as many as queues of any server have room
/// for.
const WINDOW: usize = 100;
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// 40 % A, 40 % AAAA, which Services of IPv4 have not, 20 % names that do not exist
    Usual,
    /// A
    Present,
    /// A of names that do not exist
    Absent,
}

/// A question, with what is right.
struct Question {
    message: Vec<u8>,
    rcode: u8,
    records: u8,
}

/// A client of one server.
pub(crate) struct Client {
    socket: UdpSocket,
    services: u32,
}

/// A socket that hears from `server` alone.
pub(crate) fn socket(server: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("binding a client's socket")?;
    socket.connect(server).context("connecting a client's socket")?;
    socket.set_read_timeout(Some(PATIENCE)).context("setting a client's patience")?;
    Ok(socket)
}

/// The answer to a question for the address of a Service.
pub(crate) fn ask(socket: &UdpSocket, service: u32) -> anyhow::Result<Vec<u8>> {
    socket.send(&message("service", service, A)).context("asking")?;
    let mut answer = vec![0; 512];
    let length = socket.recv(&mut answer).context("waiting for an answer")?;
    answer.truncate(length);
    Ok(answer)
}

fn message(prefix: &str, service: u32, kind: u16) -> Vec<u8> {
    question(&[&format!("{prefix}-{service:05}"), "bench", "svc", "cluster", "local"], kind)
}

/// A question for the name of these labels.
pub(crate) fn question(labels: &[&str], kind: u16) -> Vec<u8> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels.iter().chain([&""]) {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

impl Client {
    pub(crate) fn new(server: SocketAddr, services: u32) -> anyhow::Result<Client> {
        Ok(Client { socket: socket(server)?, services })
    }

    /// As many questions as there are numbers for them.
    fn questions(&self, mix: Mix) -> Vec<Question> {
        let mut random = 0x5eed_u64;
        let mut draw = |below: u32| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(((random >> 32) * u64::from(below)) >> 32).unwrap_or(0)
        };
        let question = |number: u16| {
            let service = draw(self.services);
            let (prefix, kind, rcode, records) = match (mix, draw(10)) {
                (Mix::Present, _) | (Mix::Usual, 0..4) => ("service", A, NOERROR, 1),
                (Mix::Usual, 4..8) => ("service", AAAA, NOERROR, 0),
                (Mix::Usual | Mix::Absent, _) => ("absent", A, NXDOMAIN, 0),
            };
            let mut message = message(prefix, service, kind);
            message[..2].copy_from_slice(&number.to_be_bytes());
            Question { message, rcode, records }
        };
        (0..=u16::MAX).map(question).collect()
    }

    /// Asks for `time` as fast as it is answered. Returns the number of answers.
    pub(crate) fn flood(&self, mix: Mix, time: Duration) -> anyhow::Result<u32> {
        let questions = self.questions(mix);
        let end = Instant::now() + time;
        let (mut next, mut waiting, mut lost, mut answers, mut buffer) = (0, 0, 0, 0, [0; 2048]);
        while Instant::now() < end {
            while waiting < WINDOW {
                self.socket.send(&questions[next % questions.len()].message).context("asking")?;
                (next, waiting) = (next + 1, waiting + 1);
            }
            // The first one is waited for, others are taken if they are there.
            let mut waits = true;
            while waiting > WINDOW / 2 || waits {
                match self.socket.recv(&mut buffer) {
                    Ok(length) => check(&questions, &buffer[..length])?,
                    // A queue was full: they are lost.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        (lost, waiting) = (lost + waiting, 0);
                        break;
                    }
                    Err(error) => return Err(error).context("waiting for an answer"),
                }
                (waits, waiting, answers) = (false, waiting - 1, answers + 1);
            }
        }
        // What is under way is no answer to a later question.
        while waiting > 0 && self.socket.recv(&mut buffer).is_ok() {
            waiting -= 1;
        }
        lost += waiting;
        ensure!(lost * 1000 <= next, "{lost} of {next} questions were not answered");
        Ok(answers)
    }

    /// Asks so many questions a second, and returns how long each answer took.
    pub(crate) fn steady(&self, rate: u32, time: Duration) -> anyhow::Result<Sample<Duration>> {
        let questions = self.questions(Mix::Usual);
        let (start, mut times, mut buffer) = (Instant::now(), Vec::new(), [0; 2048]);
        for number in 0.. {
            let due = Duration::from_secs(1) * number / rate;
            if due >= time {
                break;
            }
            std::thread::sleep((start + due).saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            self.socket.send(&questions[number as usize % questions.len()].message).context("asking")?;
            let length = self.socket.recv(&mut buffer).context("waiting for an answer")?;
            times.push(asked.elapsed());
            check(&questions, &buffer[..length])?;
        }
        Ok(Sample::new(times))
    }
}

/// Sees that an answer is right.
fn check(questions: &[Question], answer: &[u8]) -> anyhow::Result<()> {
    let &[high, low, _, flags, _, _, _, records, ..] = answer else { bail!("{answer:?} is no answer") };
    let asked = &questions[usize::from(u16::from_be_bytes([high, low]))];
    let found = (flags & 0xf, records);
    ensure!(found == (asked.rcode, asked.records), "{:?} was answered with {answer:?}", asked.message);
    Ok(())
}
