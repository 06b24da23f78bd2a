# Answers with every path that Python makes of a target, one a line.
import http.server
import posixpath
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        target = self.requestline.split(" ")[1]
        paths = [self.path]
        # An application may decode first.
        decoded = urllib.parse.unquote(target)
        targets = [target, decoded, decoded.strip()]
        targets += [urllib.parse.urljoin("http://localhost/", one) for one in targets]
        for read in (urllib.parse.urlsplit, urllib.parse.urlparse):
            for joined in targets:
                try:
                    paths.append(read(joined).path)
                except ValueError:
                    pass
        paths += [urllib.parse.unquote(path) for path in paths]
        paths += [posixpath.normpath(path) for path in paths]
        body = "\n".join(paths).encode("utf-8", "surrogateescape")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
