// Answers with every path that Node makes of a target, one a line.
const http = require('http'), url = require('url');
const readings = [
    target => new URL(target, 'http://localhost').pathname,
    // An application may decode first.
    target => new URL(decodeURI(target), 'http://localhost').pathname,
    target => new URL(decodeURIComponent(target), 'http://localhost').pathname,
    target => url.parse(target).pathname,
    target => url.parse(target, false, true).pathname,
    target => require('path').posix.normalize(target.split('?')[0]),
];
const server = http.createServer((request, response) => {
    const paths = new Set();
    for (const read of readings) {
        try {
            const path = read(request.url) || '/';
            paths.add(path).add(decodeURIComponent(path));
        } catch { /* the server answers an error */ }
    }
    response.end([...paths].join('\n'));
});
server.keepAliveTimeout = 60000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
