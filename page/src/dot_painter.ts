// Draws the dots: WebGL where there is any, else on the processor, which does for a remote desktop.
//
// The usual libraries (regl and what is built on it) compile their draw calls from text with `Function`, which the
// page's security policy forbids and should; a hundred thousand round points need no more than this.

/** Dots are mapped from [-1, 1] to the canvas by a scale (device pixels) and an offset of the middle. */
export interface DotView {
  scale: number;
  x: number;
  y: number;
  size: number; // diameter, device pixels
}

export interface DotPainter {
  places(xy: Float32Array): void;
  values(values: Uint8Array): void;
  colours(table: Uint8Array): void; // 256 RGBA
  draw(view: DotView): void;
}

export function dotPainter(canvas: HTMLCanvasElement): DotPainter {
  const gl = canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true });
  return gl ? new WebGLDots(canvas, gl) : new PlainDots(canvas);
}

const VERTEX = `#version 300 es
in vec2 place; in uint value;
uniform vec2 middle; uniform vec2 scale; uniform float size; uniform highp sampler2D colours;
out vec4 colour;
void main() {
  colour = texelFetch(colours, ivec2(int(value), 0), 0);
  gl_Position = colour.a == 0.0 ? vec4(2.0, 2.0, 2.0, 1.0) : vec4(middle + place * scale, 0.0, 1.0);
  gl_PointSize = size;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec4 colour; out vec4 shown; uniform float size;
void main() {
  float away = distance(gl_PointCoord, vec2(0.5)) * size;
  float cover = clamp(size * 0.5 - away + 0.5, 0.0, 1.0) * colour.a;
  shown = vec4(colour.rgb * cover, cover);
}`;

class WebGLDots implements DotPainter {
  private program!: WebGLProgram;
  private buffers!: [WebGLBuffer, WebGLBuffer];
  private texture!: WebGLTexture;
  private xy: Float32Array = new Float32Array(0);
  private value: Uint8Array = new Uint8Array(0);
  private table: Uint8Array = new Uint8Array(1024);
  private last: DotView | null = null;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly gl: WebGL2RenderingContext,
  ) {
    this.begin();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.begin();
      this.places(this.xy);
      this.values(this.value);
      this.colours(this.table);
      if (this.last) this.draw(this.last);
    });
  }

  places(xy: Float32Array): void {
    this.xy = xy;
    this.upload(this.buffers[0], xy);
  }

  values(values: Uint8Array): void {
    this.value = values;
    this.upload(this.buffers[1], values);
  }

  colours(table: Uint8Array): void {
    const { gl } = this;
    this.table = table;
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, table);
  }

  draw(view: DotView): void {
    const { gl, program, canvas } = this;
    this.last = view;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const n = Math.min(this.xy.length / 2, this.value.length);
    if (n === 0) return;
    gl.uniform2f(gl.getUniformLocation(program, "middle"), (view.x / canvas.width) * 2 - 1, 1 - (view.y / canvas.height) * 2);
    gl.uniform2f(gl.getUniformLocation(program, "scale"), (view.scale / canvas.width) * 2, (view.scale / canvas.height) * 2);
    gl.uniform1f(gl.getUniformLocation(program, "size"), view.size);
    gl.drawArrays(gl.POINTS, 0, n);
  }

  private begin(): void {
    const { gl } = this;
    this.program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]] as const) {
      const shader = gl.createShader(kind);
      if (!shader) return; // the context is lost; it begins again when it is back
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    gl.useProgram(this.program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    this.buffers = [gl.createBuffer(), gl.createBuffer()];
    const place = gl.getAttribLocation(this.program, "place");
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[0]);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 2, gl.FLOAT, false, 0, 0);
    const value = gl.getAttribLocation(this.program, "value");
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[1]);
    gl.enableVertexAttribArray(value);
    gl.vertexAttribIPointer(value, 1, gl.UNSIGNED_BYTE, 0, 0);
  }

  private upload(buffer: WebGLBuffer, data: Float32Array | Uint8Array): void {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
  }
}

class PlainDots implements DotPainter {
  private xy: Float32Array = new Float32Array(0);
  private value: Uint8Array = new Uint8Array(0);
  private table: Uint8Array = new Uint8Array(1024);

  constructor(private readonly canvas: HTMLCanvasElement) {}

  places(xy: Float32Array): void {
    this.xy = xy;
  }

  values(values: Uint8Array): void {
    this.value = values;
  }

  colours(table: Uint8Array): void {
    this.table = table;
  }

  draw(view: DotView): void {
    const { canvas, xy, value, table } = this;
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const colours = new Uint32Array(table.buffer);
    const side = Math.max(1, Math.round(view.size * 0.9));
    const n = Math.min(xy.length / 2, value.length);
    for (let i = 0; i < n; i++) {
      const which = value[i] as number;
      if (table[which * 4 + 3] === 0) continue;
      const left = Math.round(view.x + (xy[2 * i] as number) * view.scale - side / 2);
      const top = Math.round(view.y - (xy[2 * i + 1] as number) * view.scale - side / 2);
      if (left < 0 || top < 0 || left + side > canvas.width || top + side > canvas.height) continue;
      for (let y = top; y < top + side; y++) {
        const row = y * canvas.width + left;
        pixels.fill(colours[which] as number, row, row + side);
      }
    }
    context.putImageData(image, 0, 0);
  }
}
