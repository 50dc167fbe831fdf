//! An exchange of HTTP/1: ten fields and 100 bytes each way.

const REQUEST: &str = "POST /api/v1/items?page=2 HTTP/1.1\r\nHost: web.example\r\n\
    User-Agent: bench/1.0\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en-GB,en;q=0.9\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\
    X-Request-Id: 4f1d8a7c-3f52-4d43-9a3e-0b7a6f0c1f11\r\nAuthorization: Bearer abcdefghijklmnop\r\n\
    Cookie: session=0123456789abcdef\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: app/2.1\r\nDate: Fri, 20 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 100\r\nCache-Control: no-store\r\n\
    Vary: Accept-Encoding\r\nX-Request-Id: 4f1d8a7c-3f52-4d43-9a3e-0b7a6f0c1f11\r\n\
    X-Frame-Options: DENY\r\nX-Content-Type-Options: nosniff\r\nETag: \"33a64df5\"\r\n\r\n";

pub(crate) fn request() -> String {
    format!("{REQUEST}{}", "x".repeat(100))
}

pub(crate) fn response() -> String {
    format!("{RESPONSE}{}", "x".repeat(100))
}
