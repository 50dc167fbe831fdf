//! Why something that began like a ClientHello is none.

faults! {
    /// Why something that began like a ClientHello is none. It is forwarded as what it is.
    Malformed:

    /// It ended, or paused for too long, before it was complete.
    Incomplete = "incomplete", "ClientHello not complete";
    /// It ends past the limit.
    TooLarge = "too_large", "ClientHello too large";
    // ---- Records (RFC 8446 §5.1) ----
    /// A record of another type before the end of the message.
    RecordType = "record_type", "not a handshake record";
    /// A version other than 3.0 to 3.4 in a record header.
    RecordVersion = "record_version", "unknown record version";
    /// A record that is empty, or longer than 2^14 bytes.
    RecordLength = "record_length", "record length out of range";
    /// More in the last record than the message: nothing may follow it before the server's answer.
    Trailing = "trailing", "data behind the ClientHello in its record";
    // ---- The message (RFC 8446 §4, §4.1.2) ----
    /// Another handshake message.
    MessageType = "message_type", "not a ClientHello";
    /// A `legacy_version` that does not begin with 3.
    Version = "version", "unknown TLS version";
    /// A session id of more than 32 bytes.
    SessionId = "session_id", "session id too long";
    /// No cipher suites, or half of one.
    CipherSuites = "cipher_suites", "malformed cipher suites";
    /// No compression methods: there must be `null` at least.
    Compression = "compression", "no compression methods";
    /// A field that is longer than what contains it (RFC 8446 §3.4).
    Length = "length", "field longer than the message";
    /// Extensions that are not exactly the rest of the message (RFC 8446 §4.1.2).
    ExtensionsLength = "extensions_length", "length of the extensions is not that of the rest";
    // ---- server_name (RFC 6066 §3) ----
    /// Two `server_name` extensions (RFC 8446 §4.2), or two names of type `host_name` in one: they
    /// could mean different servers to different readers.
    ServerNameRepeated = "server_name_repeated", "more than one server name";
    /// A list of names that is empty, or whose lengths do not add up.
    ServerNameList = "server_name_list", "malformed list of server names";
    /// A name that is no host name.
    ServerName = "server_name", "server name is not a host name";
    // ---- application_layer_protocol_negotiation (RFC 7301 §3.1) ----
    /// Two of these extensions (RFC 8446 §4.2).
    ProtocolsRepeated = "protocols_repeated", "more than one list of application protocols";
    /// A list of protocols that is empty, has an empty name, or whose lengths do not add up.
    ProtocolList = "protocol_list", "malformed list of application protocols";
}
