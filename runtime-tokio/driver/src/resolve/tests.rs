use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::runtime::Runtime;

use name_server::Zone;

use super::*;

#[path = "../../tests/adapter/name_server.rs"]
mod name_server;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn localhost_needs_no_server() {
    runtime().block_on(async {
        let mut builder = Resolver::builder(TokioRuntimeProvider::default()).unwrap();
        set_options(builder.options_mut());
        let (addrs, _) = look_up(&builder.build().unwrap(), "localhost").await.unwrap();
        assert!(addrs.contains(&Ipv4Addr::LOCALHOST.into()), "{addrs:?}");
        assert!(addrs.iter().all(|addr| addr.is_loopback()), "{addrs:?}");
    });
}

#[test]
fn both_families_and_the_shorter_time_to_live() {
    let (addrs, ttl) = ask(Zone::Both).unwrap();
    let expected: [IpAddr; 2] =
        [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    assert_eq!(addrs, expected);
    assert!(ttl <= Duration::from_mins(30), "{ttl:?}");
    assert!(ttl > Duration::from_mins(20), "{ttl:?}");
}

#[test]
fn one_family_is_enough() {
    let (addrs, ttl) = ask(Zone::Only6).unwrap();
    assert_eq!(addrs.len(), 1);
    assert!(addrs[0].is_ipv6());
    assert!(ttl > Duration::from_mins(20), "{ttl:?}");
}

#[test]
fn a_name_that_is_not_there_differs_from_a_server_that_fails() {
    assert_eq!(ask(Zone::Missing), Err(DnsError::NotFound));
    assert_eq!(ask(Zone::Broken), Err(DnsError::Failed));
}

fn ask(zone: Zone) -> Answer {
    let config = name_server::start(zone);
    runtime().block_on(async {
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        set_options(builder.options_mut());
        look_up(&builder.build().unwrap(), "app.example").await
    })
}
