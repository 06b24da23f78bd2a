<?php
// Answers with the path that PHP's parse_url makes of a target, one a line.
$server = stream_socket_server('tcp://127.0.0.1:0');
echo substr(strrchr(stream_socket_get_name($server, false), ':'), 1), "\n";
while ($client = stream_socket_accept($server, -1)) {
    $line = explode(' ', (string) fgets($client));
    while (!in_array(fgets($client), ["\r\n", false], true));
    $paths = [];
    foreach ([$line[1] ?? '', 'http://localhost' . ($line[1] ?? '')] as $target) {
        $path = parse_url($target, PHP_URL_PATH) ?: '';
        array_push($paths, $path, rawurldecode($path));
    }
    $body = implode("\n", $paths);
    fwrite($client, "HTTP/1.1 200 OK\r\nContent-Length: " . strlen($body) . "\r\n\r\n$body");
    fclose($client);
}
