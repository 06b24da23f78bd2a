//! HTTP/2's connections and frames (RFC 9113, 3 to 6): what may be said, in what order and size.

use crate::{
    case::{
        Level::{Must, Own, Should},
        Table,
    },
    h2::{
        PREFACE, block,
        code::{COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR},
        data, flag, frame, headers, kind, request, setting, settings, window_update,
    },
    h2_play::{again, connection_error},
    message::End,
    target::Profile,
};

pub(super) fn table() -> Table {
    let mut t = Table::new("HTTP/2: connection and frames");
    preface(&mut t);
    settings_frames(&mut t);
    control_frames(&mut t);
    sizes_and_padding(&mut t);
    field_blocks(&mut t);
    t
}

fn preface(t: &mut Table) {
    t.h2("the first frame is SETTINGS", "9113 3.4", Must, |stage| stage.h2().map(|_| ()));
    t.h2("a preface byte by byte is understood", "9113 3.4", Must, |stage| {
        let mut client = stage.h2_silent()?;
        for byte in PREFACE {
            client.send([*byte])?;
        }
        client.greet_without_preface(&[])?;
        again(stage, &mut client, 1)
    });
    t.h2("a preface and a request in one write are served", "9113 3.4", Must, |stage| {
        let mut client = stage.h2_silent()?;
        client.send([PREFACE, &settings(&[]), &headers(1, &request("GET", &[]), true)].concat())?;
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(crate::case::OK)?;
        client.answer(1).map(|_| ())
    });
    t.h2("an invalid preface closes the connection", "9113 3.4", Must, |stage| {
        let mut client = stage.h2_silent()?;
        client.try_send(b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n");
        client.try_send(settings(&[]));
        closes(client.hear_for(client.patience()))
    });
    t.h2("a preface must be followed by SETTINGS", "9113 3.4", Must, |stage| {
        let mut client = stage.h2_silent()?;
        client.try_send([PREFACE, &headers(1, &request("GET", &[]), true)].concat());
        connection_error(&mut client, &[PROTOCOL_ERROR])
    });
    t.h2("a client that stops within its preface is cut off", "", Own, |stage| {
        let mut client = stage.h2_silent()?;
        client.send(&PREFACE[..10])?;
        closes(client.hear_for(client.patience()))
    })
    .profile = Profile::Short;
    t.h2("an unused connection ends with GOAWAY", "9113 5.4.1", Should, |stage| {
        let mut client = stage.h2()?;
        closes(client.hear_for(client.patience()))?;
        client.goaway.map(|_| ()).ok_or_else(|| "no GOAWAY".into())
    })
    .profile = Profile::Short;
    t.h2("a head that stops before its CONTINUATION is cut off", "", Own, |stage| {
        let mut client = stage.h2()?;
        client.send(frame(kind::HEADERS, flag::END_STREAM, 1, block(&request("GET", &[]))))?;
        closes(client.hear_for(client.patience()))
    })
    .profile = Profile::Short;
    t.h2("a frame that stops within is cut off", "", Own, |stage| {
        let mut client = stage.h2()?;
        client.send(&headers(1, &request("GET", &[]), true)[..12])?;
        closes(client.hear_for(client.patience()))
    })
    .profile = Profile::Short;
}

fn closes(end: End) -> Result<(), String> {
    if end == End::StillOpen { Err("the connection stays open".into()) } else { Ok(()) }
}

fn settings_frames(t: &mut Table) {
    t.h2("SETTINGS are acknowledged", "9113 6.5.3", Must, |stage| {
        let mut client = stage.h2()?;
        client.hear(|client| client.settings_acked == 1).map_err(|end| format!("{end:?}"))?;
        client.send(settings(&[(setting::INITIAL_WINDOW_SIZE, 100)]))?;
        client.hear(|client| client.settings_acked == 2).map_err(|end| format!("{end:?}"))
    });
    t.harmless(
        "unknown settings are ignored",
        "9113 6.5.2",
        Must,
        settings(&[(0xfa, 7), (0xfff0, u32::MAX)]),
    );
    t.harmless(
        "no limit of streams of the client's side binds the server",
        "9113 5.1.2",
        Must,
        settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]),
    );
    t.fatal(
        "SETTINGS with ACK and content",
        "9113 6.5",
        &[FRAME_SIZE_ERROR],
        frame(kind::SETTINGS, flag::ACK, 0, [0; 6]),
    );
    t.fatal(
        "SETTINGS of no whole number of settings",
        "9113 6.5",
        &[FRAME_SIZE_ERROR],
        frame(kind::SETTINGS, 0, 0, [0; 7]),
    );
    t.fatal("SETTINGS on a stream", "9113 6.5", &[PROTOCOL_ERROR], frame(kind::SETTINGS, 0, 1, []));
    t.fatal("ENABLE_PUSH of 2", "9113 6.5.2", &[PROTOCOL_ERROR], settings(&[(setting::ENABLE_PUSH, 2)]));
    t.fatal(
        "INITIAL_WINDOW_SIZE beyond 2^31-1",
        "9113 6.5.2",
        &[FLOW_CONTROL_ERROR],
        settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]),
    );
    t.fatal(
        "MAX_FRAME_SIZE below 16,384",
        "9113 6.5.2",
        &[PROTOCOL_ERROR],
        settings(&[(setting::MAX_FRAME_SIZE, 16_383)]),
    );
    t.fatal(
        "MAX_FRAME_SIZE of 2^24",
        "9113 6.5.2",
        &[PROTOCOL_ERROR],
        settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)]),
    );
}

fn control_frames(t: &mut Table) {
    t.h2("PING is answered with its bytes", "9113 6.7", Must, |stage| {
        let mut client = stage.h2()?;
        client.send(frame(kind::PING, 0, 0, b"12345678"))?;
        client.hear(|client| !client.pongs.is_empty()).map_err(|end| format!("no answer: {end:?}"))?;
        if client.pongs[0] == b"12345678" { Ok(()) } else { Err(format!("{:?}", client.pongs)) }
    });
    t.fatal("PING of seven bytes", "9113 6.7", &[FRAME_SIZE_ERROR], frame(kind::PING, 0, 0, [0; 7]));
    t.fatal("PING on a stream", "9113 6.7", &[PROTOCOL_ERROR], frame(kind::PING, 0, 1, [0; 8]));
    t.harmless("an answer to no PING is ignored", "9113 6.7", Own, frame(kind::PING, flag::ACK, 0, [7; 8]));
    t.harmless("frames of unknown types are ignored", "9113 5.5", Must, {
        [frame(0xbe, 0xff, 0, [1; 100]), frame(0x42, 0, 0, [])].concat()
    });
    t.h2("unknown flags are ignored", "9113 4.1", Must, |stage| {
        let mut client = stage.h2()?;
        client.send(frame(kind::PING, 0xf6, 0, [0; 8]))?;
        client.send(frame(
            kind::HEADERS,
            0xd2 | flag::END_HEADERS | flag::END_STREAM,
            1,
            block(&request("GET", &[])),
        ))?;
        stage.backend()?.request().map(|_| ())
    });
    t.h2("the reserved bit of a stream's number is ignored", "9113 4.1", Must, |stage| {
        let mut client = stage.h2()?;
        client.send(headers(1 | 1 << 31, &request("GET", &[]), true))?;
        stage.backend()?.request().map(|_| ())
    });
    t.fatal("GOAWAY on a stream", "9113 6.8", &[PROTOCOL_ERROR], frame(kind::GOAWAY, 0, 1, [0; 8]));
    t.h2("a client that goes away still gets its answer", "9113 6.8", Must, |stage| {
        let (mut client, mut upstream) = crate::h2_play::meet_get(stage)?;
        client.send(frame(kind::GOAWAY, 0, 0, [0; 8]))?;
        upstream.send(crate::case::OK)?;
        client.answer(1).map(|_| ())
    });
    t.fatal("PUSH_PROMISE of a client", "9113 8.4", &[PROTOCOL_ERROR], {
        let promise = [&2_u32.to_be_bytes()[..], &block(&request("GET", &[]))].concat();
        [headers(1, &request("POST", &[]), false), frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, promise)]
            .concat()
    });
    t.harmless(
        "PRIORITY of an idle stream is ignored",
        "9113 6.3",
        Must,
        frame(kind::PRIORITY, 0, 7, [0, 0, 0, 1, 9]),
    );
    t.fatal(
        "PRIORITY on no stream",
        "9113 6.3",
        &[PROTOCOL_ERROR],
        frame(kind::PRIORITY, 0, 0, [0, 0, 0, 1, 9]),
    );
    t.h2("PRIORITY of four bytes", "9113 6.3", Must, |stage| {
        let mut client = stage.h2()?;
        client.try_send(
            [headers(1, &request("POST", &[]), false), frame(kind::PRIORITY, 0, 1, [0; 4])].concat(),
        );
        crate::h2_play::stream_error(&mut client, &[FRAME_SIZE_ERROR])
    });
    t.fatal("WINDOW_UPDATE of 0 for the connection", "9113 6.9", &[PROTOCOL_ERROR], window_update(0, 0));
    t.fatal(
        "WINDOW_UPDATE of three bytes",
        "9113 6.9",
        &[FRAME_SIZE_ERROR],
        frame(kind::WINDOW_UPDATE, 0, 0, [0, 0, 1]),
    );
    t.fatal("the connection's window grows beyond 2^31-1", "9113 6.9.1", &[FLOW_CONTROL_ERROR], {
        [window_update(0, (1 << 31) - 1), window_update(0, 1)].concat()
    });
    t.h2("WINDOW_UPDATE of 0 for a stream", "9113 6.9", Must, |stage| {
        let mut client = stage.h2()?;
        client.try_send([headers(1, &request("POST", &[]), false), window_update(1, 0)].concat());
        crate::h2_play::stream_error(&mut client, &[PROTOCOL_ERROR])
    });
    t.h2("a stream's window grows beyond 2^31-1", "9113 6.9.1", Must, |stage| {
        let mut client = stage.h2()?;
        client.try_send(
            [headers(1, &request("POST", &[]), false), window_update(1, (1 << 31) - 1), window_update(1, 1)]
                .concat(),
        );
        crate::h2_play::stream_error(&mut client, &[FLOW_CONTROL_ERROR])
    });
    t.h2("SETTINGS grow a stream's window beyond 2^31-1", "9113 6.9.2", Must, |stage| {
        let mut client = stage.h2()?;
        client.try_send(
            [
                headers(1, &request("POST", &[]), false),
                window_update(1, (1 << 31) - 1 - 65_535),
                settings(&[(setting::INITIAL_WINDOW_SIZE, 65_536)]),
            ]
            .concat(),
        );
        connection_error(&mut client, &[FLOW_CONTROL_ERROR])
    });
}

fn sizes_and_padding(t: &mut Table) {
    t.fatal(
        "HEADERS beyond the frame's largest size",
        "9113 4.2",
        &[FRAME_SIZE_ERROR],
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, vec![0; 1 << 20]),
    );
    t.fatal("a frame of unknown type beyond the largest size", "9113 4.2", &[FRAME_SIZE_ERROR], {
        frame(0xee, 0, 0, vec![0; 1 << 20])
    });
    t.h2("DATA beyond the frame's largest size", "9113 4.2", Must, |stage| {
        let mut client = stage.h2()?;
        client.try_send([headers(1, &request("POST", &[]), false), data(1, vec![0; 1 << 20], true)].concat());
        crate::h2_play::stream_error(&mut client, &[FRAME_SIZE_ERROR, FLOW_CONTROL_ERROR])
    });
    t.fatal("DATA padded beyond its end", "9113 6.1", &[PROTOCOL_ERROR], {
        [headers(1, &request("POST", &[]), false), frame(kind::DATA, flag::PADDED, 1, [5, b'a', b'b'])]
            .concat()
    });
    t.fatal(
        "HEADERS padded beyond their end",
        "9113 6.2",
        &[PROTOCOL_ERROR],
        frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS | flag::END_STREAM, 1, [200, 0x82, 0x86]),
    );
    for (name, head, last) in [
        ("padding is no content", &b"\x03"[..], &b"\x01c\0"[..]),
        ("padding may be of no bytes", b"\x00", b"\x00c"),
    ] {
        t.h2(name, "9113 6.1", Must, move |stage| {
            let mut client = stage.h2()?;
            let padding = vec![0; usize::from(head[0])];
            let head = [head, &block(&request("POST", &[])), &padding].concat();
            client.send(frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, head))?;
            client.send(frame(kind::DATA, flag::PADDED, 1, b"\x02ab\0\0"))?;
            client.send(frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, last))?;
            let seen = stage.backend()?.request()?;
            if seen.body == b"abc" { Ok(()) } else { Err(format!("{:?}", seen.body)) }
        });
    }
    t.h2("a priority in HEADERS is ignored", "9113 6.2", Must, |stage| {
        let mut client = stage.h2()?;
        let head = [&[0, 0, 0, 0, 7][..], &block(&request("GET", &[]))].concat();
        let flags = flag::PRIORITY | flag::END_HEADERS | flag::END_STREAM;
        client.send(frame(kind::HEADERS, flags, 1, head))?;
        stage.backend()?.request().map(|_| ())
    });
    t.fatal("DATA on no stream", "9113 6.1", &[PROTOCOL_ERROR], data(0, "a", false));
    t.fatal("HEADERS on no stream", "9113 6.2", &[PROTOCOL_ERROR], headers(0, &request("GET", &[]), true));
    t.fatal("RST_STREAM on no stream", "9113 6.4", &[PROTOCOL_ERROR], crate::h2::rst_stream(0, 8));
    t.fatal("RST_STREAM of three bytes", "9113 6.4", &[FRAME_SIZE_ERROR], {
        [headers(1, &request("POST", &[]), false), frame(kind::RST_STREAM, 0, 1, [0; 3])].concat()
    });
}

fn field_blocks(t: &mut Table) {
    t.h2("a head in CONTINUATION frames is understood", "9113 6.10", Must, |stage| {
        let mut client = stage.h2()?;
        let all = block(&request("GET", &[("x", "y")]));
        let at = |n: usize| all.len() * n / 4;
        client.send(frame(kind::HEADERS, flag::END_STREAM, 1, &all[..1]))?;
        client.send(frame(kind::CONTINUATION, 0, 1, &all[1..at(1)]))?;
        client.send(frame(kind::CONTINUATION, 0, 1, []))?;
        client.send(frame(kind::CONTINUATION, 0, 1, &all[at(1)..at(3)]))?;
        client.send(frame(kind::CONTINUATION, flag::END_HEADERS, 1, &all[at(3)..]))?;
        let seen = stage.backend()?.request()?;
        crate::case::check(&seen, &[crate::case::Check::Is("x", "y")])
    });
    let open = || frame(kind::HEADERS, flag::END_STREAM, 1, block(&request("GET", &[])));
    t.fatal(
        "CONTINUATION without HEADERS",
        "9113 6.10",
        &[PROTOCOL_ERROR],
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, []),
    );
    t.fatal("CONTINUATION after the head's end", "9113 6.10", &[PROTOCOL_ERROR], {
        [
            headers(1, &request("POST", &[]), false),
            frame(kind::CONTINUATION, flag::END_HEADERS, 1, block(&[("x", "y")])),
        ]
        .concat()
    });
    t.fatal("CONTINUATION of another stream", "9113 6.10", &[PROTOCOL_ERROR], {
        [open(), frame(kind::CONTINUATION, flag::END_HEADERS, 3, block(&[("x", "y")]))].concat()
    });
    t.fatal("CONTINUATION on no stream", "9113 6.10", &[PROTOCOL_ERROR], {
        [open(), frame(kind::CONTINUATION, flag::END_HEADERS, 0, block(&[("x", "y")]))].concat()
    });
    for (name, between) in [
        ("DATA before CONTINUATION", data(1, "a", false)),
        ("PING before CONTINUATION", frame(kind::PING, 0, 0, [0; 8])),
        ("SETTINGS before CONTINUATION", settings(&[])),
        ("a frame of unknown type before CONTINUATION", frame(0xee, 0, 1, [])),
        ("HEADERS of another stream before CONTINUATION", headers(3, &request("GET", &[]), true)),
        ("RST_STREAM before CONTINUATION", crate::h2::rst_stream(1, 8)),
    ] {
        t.fatal(name, "9113 6.10", &[PROTOCOL_ERROR], {
            [open(), between, frame(kind::CONTINUATION, flag::END_HEADERS, 1, [])].concat()
        });
    }
    let raw = |bytes: &[u8]| frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, bytes);
    t.fatal(
        "an index that no table has",
        "7541 2.3.3",
        &[COMPRESSION_ERROR],
        raw(&[0x82, 0x86, 0x84, 0xff, 0x80, 0x01]),
    );
    t.fatal("an index of 0", "7541 6.1", &[COMPRESSION_ERROR], raw(&[0x82, 0x86, 0x84, 0x80]));
    t.fatal(
        "a field that ends before its value",
        "9113 4.3",
        &[COMPRESSION_ERROR],
        raw(&[0x82, 0x86, 0x84, 0x00, 0x01, b'a', 0x05, b'b']),
    );
    t.fatal("Huffman's end of string within a value", "7541 5.2", &[COMPRESSION_ERROR], {
        raw(&[0x82, 0x86, 0x84, 0x00, 0x01, b'a', 0x84, 0xff, 0xff, 0xff, 0xff])
    });
    t.fatal(
        "Huffman's padding with zeros",
        "7541 5.2",
        &[COMPRESSION_ERROR],
        raw(&[0x82, 0x86, 0x84, 0x00, 0x01, b'a', 0x81, 0x00]),
    );
    t.fatal(
        "a table larger than was allowed",
        "7541 6.3",
        &[COMPRESSION_ERROR],
        raw(&[0x3f, 0xe1, 0xff, 0x7f, 0x82, 0x86, 0x84]),
    );
    t.fatal(
        "a change of the table's size after fields",
        "7541 4.2",
        &[COMPRESSION_ERROR],
        raw(&[0x82, 0x86, 0x84, 0x20]),
    );
    t.fatal("an integer without end", "7541 5.1", &[COMPRESSION_ERROR], {
        raw(&[&[0x82, 0x86, 0x84, 0x7f][..], &[0xff; 40]].concat())
    });
    t.h2("the table is kept from head to head", "7541 2.3.2", Must, |stage| {
        let mut client = stage.h2()?;
        let first = [&[0x82, 0x86, 0x84, 0x41, 9][..], b"a.example", &[0x40, 1, b'x', 1, b'y']].concat();
        client.send(frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, first))?;
        // 62 is the newest entry, x: y; 63 the authority.
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(crate::case::OK)?;
        client.answer(1)?;
        client.send(frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            3,
            [0x82, 0x86, 0x84, 0xbf, 0xbe],
        ))?;
        let seen = stage.next_request(&mut upstream)?;
        crate::case::check(
            &seen,
            &[crate::case::Check::Is("host", "a.example"), crate::case::Check::Is("x", "y")],
        )
    });
    t.h2("the head of a stream that is refused still fills the table", "9113 4.3", Must, |stage| {
        let mut client = stage.h2()?;
        // An upper-case name: the request is malformed, its fields are in the table all the same.
        let bad = [
            &[0x82, 0x86, 0x84, 0x41, 9][..],
            b"a.example",
            &[0x40, 1, b'x', 1, b'y', 0x00, 1, b'B', 1, b'c'],
        ]
        .concat();
        client.send(frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, bad))?;
        if let crate::h2::Outcome::Lost(Some(_), _) = client.outcome(1) {
            // An error of the stream may be one of the connection (5.4.2).
            return Ok(());
        }
        client.send(frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            3,
            [0x82, 0x86, 0x84, 0xbf, 0xbe],
        ))?;
        let seen = stage.backend()?.request()?;
        crate::case::check(
            &seen,
            &[crate::case::Check::Is("host", "a.example"), crate::case::Check::Is("x", "y")],
        )
    });
}
