// A convolution over two axes: one multiplication a clock, outputs in the order of the output's memory.
//
// The input, channel by channel and row by row, lies in a memory outside, which is read without delay. Weights are in
// the order of net.json's "OIHW". Outside of the image the input is zero.
module conv #(
    parameter CHANNELS = 1,
    parameter HEIGHT = 1,
    parameter WIDTH = 1,
    parameter OUTPUTS = 1,
    parameter OUT_HEIGHT = 1,
    parameter OUT_WIDTH = 1,
    parameter KERNEL_H = 1,
    parameter KERNEL_W = 1,
    parameter STRIDE_H = 1,
    parameter STRIDE_W = 1,
    parameter PAD_H = 0,
    parameter PAD_W = 0,
    parameter DILATION_H = 1,
    parameter DILATION_W = 1,
    parameter GROUP = 1,
    parameter IN_BITS = 8,
    parameter IN_SIGNED = 1,
    parameter WEIGHT_BITS = 8,
    parameter BIAS_BITS = 32,
    parameter HAS_BIAS = 1,
    parameter ACC_BITS = 32,
    parameter SHIFT = 0,
    parameter ROUNDING = 0,
    parameter OUT_BITS = 8,
    parameter signed [63:0] MIN = -128,
    parameter signed [63:0] MAX = 127,
    parameter WEIGHTS_FILE = "",
    parameter BIAS_FILE = ""
) (
    input clk,
    input reset,
    input start,
    output [31:0] in_address,
    input [IN_BITS-1:0] in_data,
    output reg out_valid,
    output reg [31:0] out_address,
    output [OUT_BITS-1:0] out_data,
    output reg done
);
    localparam IN_GROUP = CHANNELS / GROUP;
    localparam OUT_GROUP = OUTPUTS / GROUP;
    localparam WINDOW = IN_GROUP * KERNEL_H * KERNEL_W;

    reg signed [WEIGHT_BITS-1:0] weights[0:OUTPUTS*WINDOW-1];
    reg signed [BIAS_BITS-1:0] bias[0:OUTPUTS-1];
    initial begin
        $readmemh(WEIGHTS_FILE, weights);
        if (HAS_BIAS) $readmemh(BIAS_FILE, bias);
    end

    // The output's channel, row and column; within its window the channel, row and column of the weight.
    reg running;
    reg signed [31:0] o, y, x, c, i, j;
    reg signed [ACC_BITS-1:0] acc;

    wire signed [31:0] row = y * STRIDE_H + i * DILATION_H - PAD_H;
    wire signed [31:0] column = x * STRIDE_W + j * DILATION_W - PAD_W;
    wire inside = row >= 0 && row < HEIGHT && column >= 0 && column < WIDTH;
    wire [31:0] channel = (o / OUT_GROUP) * IN_GROUP + c;
    assign in_address = inside ? (channel * HEIGHT + row) * WIDTH + column : 0;

    // One bit more than the input, so that an input without sign stays positive.
    wire signed [IN_BITS:0] value = inside ? {IN_SIGNED ? in_data[IN_BITS-1] : 1'b0, in_data} : 0;
    wire signed [WEIGHT_BITS-1:0] w = weights[o*WINDOW+(c*KERNEL_H+i)*KERNEL_W+j];
    wire signed [IN_BITS+WEIGHT_BITS:0] product = value * w;
    wire signed [BIAS_BITS-1:0] b = HAS_BIAS ? bias[o] : 0;

    wire first = c == 0 && i == 0 && j == 0;
    wire last_j = j == KERNEL_W - 1;
    wire last_i = last_j && i == KERNEL_H - 1;
    wire last = last_i && c == IN_GROUP - 1;
    wire last_x = x == OUT_WIDTH - 1;
    wire last_y = last_x && y == OUT_HEIGHT - 1;

    always @(posedge clk) begin
        out_valid <= 0;
        done <= 0;
        if (reset) begin
            running <= 0;
        end else if (start) begin
            running <= 1;
            {o, y, x, c, i, j} <= 0;
            out_address <= -1;
        end else if (running) begin
            acc <= (first ? b : acc) + product;
            j <= last_j ? 0 : j + 1;
            if (last_j) i <= last_i ? 0 : i + 1;
            if (last_i) c <= last ? 0 : c + 1;
            if (last) begin
                out_valid <= 1;
                out_address <= out_address + 1;
                x <= last_x ? 0 : x + 1;
                if (last_x) y <= last_y ? 0 : y + 1;
                if (last_y) o <= o + 1;
                if (last_y && o == OUTPUTS - 1) begin
                    running <= 0;
                    done <= 1;
                end
            end
        end
    end

    requantize #(
        .ACC_BITS(ACC_BITS),
        .SHIFT(SHIFT),
        .ROUNDING(ROUNDING),
        .OUT_BITS(OUT_BITS),
        .MIN(MIN),
        .MAX(MAX)
    ) to_output (
        .acc(acc),
        .out(out_data)
    );
endmodule
