//! The measures, each for every proxy in turn.

use packetboat::state::{self, Access};

use crate::certificates::Certificates;
use crate::device::{Device, Kind, SUITE};
use crate::proxies::{self, Proxy, Setting};
use crate::upstream::Upstream;

pub fn all(filter: &[&String]) {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::for_name("localhost", 30);
    certificates.write(directory.path());
    let key = certificates.key.private_key_to_pem_pkcs8().unwrap();
    state::write(&directory.path().join("server.key"), &key, Access::Private).unwrap();
    let mut upstream = Upstream::start(directory.path());
    let setting = Setting { directory: directory.path(), upstream: upstream.ports, connections: 9900 };
    let only = std::env::var("PROXIES").ok();
    let proxies: Vec<Proxy> = proxies::ALL
        .iter()
        .filter(|(name, _)| only.as_ref().is_none_or(|only| only.contains(name)))
        .filter_map(|(_, start)| start(&setting))
        .collect();
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|one| name.contains(one.as_str()));
    let old = Kind::old(SUITE);
    let full = |proxy: &Proxy, manner: usize| {
        let mut device = old.connect(proxy.addresses[manner], None);
        device.log_in("u", "p");
        device.ok("SELECT INBOX");
        assert_eq!(device.fetch(1), 16384);
        device.log_out();
    };
    upstream.handshakes();
    for (manner, name) in [(0, "1.3"), (3, "1.2")] {
        if wanted("session") {
            run(&format!("session full {name}"), &proxies, 9, 100, 1e6, |proxy, _| full(proxy, manner));
        }
        if wanted("resumed") {
            let sessions: Vec<_> = proxies
                .iter()
                .map(|proxy| old.connect(proxy.addresses[manner], None))
                .map(|mut device| {
                    device.ok("NOOP");
                    let s = device.session();
                    device.log_out();
                    s
                })
                .collect();
            run(&format!("session resumed {name}"), &proxies, 9, 200, 1e6, |proxy, index| {
                let mut device = old.connect(proxy.addresses[manner], Some(&sessions[index]));
                device.log_in("u", "p");
                device.ok("SELECT INBOX");
                assert_eq!(device.fetch(1), 16384);
                device.log_out();
            });
        }
    }
    println!("handshakes {:?}", upstream.handshakes());
    if wanted("busy") {
        for resumed in [false, true] {
            if resumed == (filter.iter().any(|f| f.as_str() == "busy-full")) && filter.len() == 2 {
                continue;
            }
            let sessions: Vec<_> = proxies
                .iter()
                .map(|proxy| {
                    let d = old.connect(proxy.addresses[0], None);
                    let s = d.session();
                    d.log_out();
                    s
                })
                .collect();
            run(&format!("busy resumed={resumed}"), &proxies, 9, 1, 1e6 / 320.0, |proxy, index| {
                std::thread::scope(|scope| {
                    for _ in 0..16 {
                        scope.spawn(|| {
                            for _ in 0..20 {
                                let mut device = old.connect(proxy.addresses[0], resumed.then_some(&sessions[index]));
                                device.log_in("u", "p");
                                device.ok("SELECT INBOX");
                                assert_eq!(device.fetch(1), 16384);
                                device.log_out();
                            }
                        });
                    }
                });
            });
        }
    }
    for (manner, name) in [(0, "16K"), (1, "4K"), (2, "1400")] {
        if wanted("bulk") {
            let mut devices: Vec<Device> = proxies.iter().map(|proxy| open(&old, proxy, manner)).collect();
            run(&format!("bulk {name} ms/MiB"), &proxies, 7, 16 * 4, 1e3, {
                let mut n = 0;
                move |_, index| {
                    if n % 16 == 0 {
                        devices[index].fetch(2);
                    }
                    n += 1;
                }
            });
        }
    }
    if wanted("upload") {
        let mut devices: Vec<Device> = proxies.iter().map(|proxy| open(&old, proxy, 0)).collect();
        run("upload ms/MiB", &proxies, 7, 16 * 4, 1e3, {
            let mut n = 0;
            move |_, index| {
                if n % 16 == 0 {
                    devices[index].append(16 << 20);
                }
                n += 1;
            }
        });
    }
    if wanted("noop") {
        let mut devices: Vec<Device> = proxies.iter().map(|proxy| open(&old, proxy, 0)).collect();
        run("noop", &proxies, 9, 2000, 1e6, |_, index| devices[index].ok("NOOP"));
    }
    if wanted("idle") {
        for (proxy, index) in proxies.iter().zip(0..) {
            let _: usize = index;
            let tree = proxy.tree();
            let before = tree.memory();
            let devices: Vec<Device> = (0..1000)
                .map(|_| {
                    let mut d = open(&old, proxy, 0);
                    d.ok("SELECT INBOX");
                    d.idle();
                    d
                })
                .collect();
            std::thread::sleep(std::time::Duration::from_secs(1));
            let cpu = tree.cpu();
            let memory = tree.memory();
            std::thread::sleep(std::time::Duration::from_secs(3));
            println!(
                "{} idle {:.1} KiB each, base {before}; cpu in 3 s {:?}",
                proxy.name,
                (memory - before) / 1000.0,
                tree.cpu() - cpu
            );
            drop(devices);
        }
    }
}

fn open(kind: &Kind, proxy: &Proxy, manner: usize) -> Device {
    let mut device = kind.connect(proxy.addresses[manner], None);
    device.log_in("u", "p");
    device
}

fn run(name: &str, proxies: &[Proxy], rounds: usize, count: usize, unit: f64, mut work: impl FnMut(&Proxy, usize)) {
    let mut figures = vec![Vec::new(); proxies.len()];
    for round in 0..=rounds {
        for (index, proxy) in proxies.iter().enumerate() {
            let tree = proxy.tree();
            let before = tree.cpu();
            for _ in 0..count {
                work(proxy, index);
            }
            if round > 0 {
                figures[index].push((tree.cpu() - before).as_secs_f64() * unit / count as f64);
            }
        }
    }
    println!("{name}");
    for (proxy, f) in proxies.iter().zip(&mut figures) {
        f.sort_by(f64::total_cmp);
        println!("   {:12} {:9.3} ({:.3} to {:.3})", proxy.name, f[f.len() / 2], f[f.len() / 4], f[f.len() * 3 / 4]);
    }
}
