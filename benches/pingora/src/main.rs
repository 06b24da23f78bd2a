//! `pingora-peer WORKERS HTTP HTTP2 HTTPS CERTIFICATE KEY BACKEND BACKEND`: a reverse proxy built as in Pingora's
//! guide, with the headers that every proxy under test sets.

use std::{env, error::Error, sync::Arc};

use async_trait::async_trait;
use pingora::{
    http::RequestHeader,
    lb::{LoadBalancer, selection::RoundRobin},
    prelude::{HttpPeer, Result},
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::{Server, configuration::ServerConf},
};

struct Proxy {
    backends: Arc<LoadBalancer<RoundRobin>>,
    scheme: &'static str,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let backend = self.backends.select(b"", 8).ok_or_else(|| pingora::Error::new_str("no backend"))?;
        Ok(Box::new(HttpPeer::new(backend, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _ctx: &mut (),
    ) -> Result<()> {
        if let Some(address) = session.client_addr().and_then(|address| address.as_inet()) {
            let client = address.ip().to_string();
            request.insert_header("X-Real-IP", &client)?;
            request.insert_header("X-Forwarded-For", &client)?;
        }
        request.insert_header("X-Forwarded-Proto", self.scheme)?;
        let host = request.headers.get("host").cloned();
        let host = host.or_else(|| request.uri.host().and_then(|host| host.parse().ok()));
        if let Some(host) = host {
            // An HTTP/2 request has an authority instead of a Host header.
            request.insert_header("Host", &host)?;
            request.insert_header("X-Forwarded-Host", host)?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--version") {
        println!("pingora {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let [workers, http, http2, https, certificate, key, first, second] = arguments.as_slice() else {
        return Err("WORKERS HTTP HTTP2 HTTPS CERTIFICATE KEY BACKEND BACKEND".into());
    };
    let configuration = ServerConf {
        threads: workers.parse()?,
        upstream_keepalive_pool_size: 256,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let backends = Arc::new(LoadBalancer::try_from_iter([first.as_str(), second.as_str()])?);
    // One service per listener; the threads of unused listeners sleep.
    for (listener, scheme) in [(http, "http"), (http2, "http"), (https, "https")] {
        let mut service = http_proxy_service(&server.configuration, Proxy { backends: backends.clone(), scheme });
        if listener == https {
            service.add_tls(listener, certificate, key)?;
        } else {
            service.add_tcp(listener);
        }
        if listener == http2
            && let Some(app) = service.app_logic_mut()
        {
            let mut options = pingora::apps::HttpServerOptions::default();
            options.h2c = true;
            app.server_options = Some(options);
        }
        server.add_service(service);
    }
    server.run_forever();
}
