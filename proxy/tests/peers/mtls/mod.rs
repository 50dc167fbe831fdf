//! Mutual TLS between proxies: what others see of it, and what it takes.

mod authority;
