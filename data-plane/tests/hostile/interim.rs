//! Interim responses (1xx) of any size to clients that read slowly: the client's parser always sees complete messages
//! in the order in which the backend sent them. Interim responses may be missing, but nothing else.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::support::{
    wire::{BoxIo, Kind, Wire, config},
    within,
};

/// The backend's responses to one request: the fields of its interim responses, then a final response.
type Script = Vec<Vec<String>>;

/// When the client reads.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// Only after the backend has written its whole response.
    Late,
    /// At once, in pieces of up to this many bytes.
    Pieces(usize),
}

/// The fields of an interim response of `size` bytes, with `fields` fields that have no space after the colon: they
/// grow when a proxy rewrites them.
fn section(mark: usize, size: usize, fields: usize) -> Vec<String> {
    let filler = size.saturating_sub(60) / fields;
    let mut lines = vec![format!("x-mark:{mark}")];
    // Bytes that a client must never take for a response of its own.
    let smuggled = "HTTP/1.1 200 OK";
    lines.extend((0..fields).map(|n| {
        let name = format!("x-{n}");
        let value = "v".repeat(filler.saturating_sub(name.len() + 3 + smuggled.len()).max(1));
        format!("{name}:{smuggled}{value}")
    }));
    // Exact to the byte, if the fields above left room.
    let length = interim(&lines).len();
    if let Some(last) = lines.last_mut() {
        last.push_str(&"v".repeat(size.saturating_sub(length)));
    }
    lines
}

/// The interim response with these fields.
fn interim(section: &[String]) -> String {
    format!("HTTP/1.1 103 Early Hints\r\n{}\r\n\r\n", section.join("\r\n"))
}

/// A backend that answers the request for `/N` with the Nth script; each completely written response adds a permit.
async fn backend(scripts: Vec<Script>) -> (SocketAddr, Arc<Semaphore>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (scripts, written) = (Arc::new(scripts), Arc::new(Semaphore::new(0)));
    let done = Arc::clone(&written);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&scripts), Arc::clone(&done)));
        }
    });
    (address, written)
}

async fn answer(mut stream: TcpStream, scripts: Arc<Vec<Script>>, written: Arc<Semaphore>) {
    let (mut read, mut buffer) = (Vec::new(), vec![0; 4096]);
    loop {
        while let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(read.drain(..end + 4).collect()).unwrap();
            let path = head.split(' ').nth(1).unwrap().trim_start_matches('/');
            let number: usize = path.parse().unwrap();
            for section in &scripts[number] {
                stream.write_all(interim(section).as_bytes()).await.unwrap();
            }
            let body = format!("answer {number}");
            let last = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(last.as_bytes()).await.unwrap();
            written.add_permits(1);
        }
        match stream.read(&mut buffer).await {
            Ok(some @ 1..) => read.extend_from_slice(&buffer[..some]),
            _ => return,
        }
    }
}

/// Reads one head; returns the status, and the fields except Weir's own.
async fn read_head(client: &mut BoxIo, input: &mut Vec<u8>, piece: usize) -> (u16, Vec<(String, String)>) {
    let end = loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        fill(client, input, piece).await;
    };
    let head = String::from_utf8(input.drain(..end + 4).collect()).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap();
    let number = status.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("no status line: {status:?}"));
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    let fields = fields.filter(|(name, _)| !["via", "date"].contains(&name.as_str())).collect();
    (number[..3].parse().unwrap(), fields)
}

async fn fill(client: &mut BoxIo, input: &mut Vec<u8>, piece: usize) {
    let mut buffer = vec![0; piece];
    let read = within(client.read(&mut buffer)).await.unwrap();
    assert!(read > 0, "the connection ended within a message: {:?}", String::from_utf8_lossy(input));
    input.extend_from_slice(&buffer[..read]);
}

/// Sends the requests one after the other on one connection and checks every returned message. Returns the number of
/// interim responses.
async fn play(kind: Kind, scripts: &[Script], reading: Reading) -> usize {
    let (address, written) = backend(scripts.to_vec()).await;
    let wire = Wire::start(config(&[format!("http://{address}")])).await;
    let mut client = wire.connect(kind).await;
    let (mut input, mut arrived) = (Vec::new(), 0);
    for (number, script) in scripts.iter().enumerate() {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let piece = match reading {
            Reading::Late => {
                within(written.acquire()).await.unwrap().forget();
                1 << 16
            }
            Reading::Pieces(piece) => piece,
        };
        let mut sent = script.iter();
        loop {
            let (status, fields) = read_head(&mut client, &mut input, piece).await;
            if status == 103 {
                let expected = |section: &&Vec<String>| {
                    let mut lines = section.iter().map(|line| line.split_once(':').unwrap());
                    fields.iter().all(|(name, value)| lines.next() == Some((name, value)))
                        && lines.next().is_none()
                };
                assert!(sent.any(|section| expected(&section)), "{kind:?} {reading:?}: not sent: {fields:?}");
                arrived += 1;
                continue;
            }
            assert_eq!(status, 200, "{kind:?} {reading:?}");
            let body = format!("answer {number}");
            assert_eq!(fields, [("content-length".to_owned(), body.len().to_string())]);
            while input.len() < body.len() {
                fill(&mut client, &mut input, piece).await;
            }
            assert_eq!(input.drain(..body.len()).collect::<Vec<_>>(), body.as_bytes());
            break;
        }
        assert!(input.is_empty(), "{kind:?} {reading:?}: {:?}", String::from_utf8_lossy(&input));
    }
    arrived
}

#[tokio::test]
async fn a_head_that_grows_beyond_the_buffer_of_tls_is_sent_whole() {
    for kind in Kind::HTTP1 {
        for (size, fields) in [(65_536, 100), (65_535, 60), (65_400, 8)] {
            let script = vec![section(0, size, fields), section(1, 40, 1)];
            for reading in [Reading::Late, Reading::Pieces(1 << 16)] {
                let arrived = play(kind, &[script.clone(), vec![], script.clone()], reading).await;
                assert!(arrived >= 1, "{kind:?} {size}: no interim answer has arrived");
            }
        }
    }
}

#[tokio::test]
async fn interim_answers_to_a_client_that_does_not_read_leave_the_final_one_whole() {
    for kind in Kind::HTTP1 {
        let script: Script = (0..99).map(|mark| section(mark, 65_000, 50)).collect();
        play(kind, &[script, vec![]], Reading::Late).await;
    }
}

#[tokio::test]
async fn whatever_a_backend_sends_the_client_reads_the_same_messages() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut one = || -> Script {
            let count = random.usize(0..6);
            let size = |random: &mut fastrand::Rng| match random.u8(0..4) {
                0 => 80,
                1 => random.usize(100..4_000),
                2 => random.usize(15_000..17_000),
                _ => random.usize(60_000..65_537),
            };
            (0..count).map(|mark| section(mark, size(&mut random), random.usize(1..60))).collect()
        };
        let scripts: Vec<Script> = (0..4).map(|_| one()).collect();
        for kind in Kind::HTTP1 {
            for reading in [Reading::Late, Reading::Pieces(1 + 1500 * (seed as usize + 1))] {
                play(kind, &scripts, reading).await;
            }
        }
    }
}
