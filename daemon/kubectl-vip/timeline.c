#include "daemon/kubectl-vip/timeline.h"

#include <stdbool.h>
#include <string.h>

#include "base/array.h"
#include "k8s/object.h"

#define SPANS_MAX  32
#define ROWS_MAX   10
#define COLUMNS    60
#define LEFT       140 /* of the picture, in pixels */
#define WIDTH      720
#define ROW_HEIGHT 34
#define TOP        64

struct span {
	double from_ms, to_ms;
	const char *who; /* a node; "" nobody; "*" two */
};

struct timeline {
	unsigned count, row_count;
	struct span spans[SPANS_MAX];
	const char *rows[ROWS_MAX];
	double from_ms, to_ms; /* what is shown of it */
};

static const char *label(const char *who)
{
	return !*who ? "nobody" : strcmp(who, "*") == 0 ? "two" : who;
}

static void add_row(struct timeline *timeline, const char *who)
{
	for (unsigned i = 0; i < timeline->row_count; i++)
		if (strcmp(timeline->rows[i], who) == 0)
			return;
	if (timeline->row_count < ROWS_MAX)
		timeline->rows[timeline->row_count++] = who;
}

/* From a little before the first change to a little after the last one. */
static void choose_window(struct timeline *timeline)
{
	const struct span *first = &timeline->spans[0];
	const struct span *last = &timeline->spans[timeline->count - 1];
	double changing_ms = last->from_ms - first->to_ms, margin_ms = changing_ms * 0.4;

	if (timeline->count == 1) {
		timeline->to_ms = 1000;
		return;
	}
	if (margin_ms < 20)
		margin_ms = 20;
	timeline->from_ms = first->to_ms > margin_ms ? first->to_ms - margin_ms : 0;
	timeline->to_ms = last->from_ms + margin_ms;
}

/* False: nothing was recorded. */
static bool read_timeline(const cJSON *run, struct timeline *timeline)
{
	const cJSON *item;

	memset(timeline, 0, sizeof *timeline);
	cJSON_ArrayForEach(item, k8s_object_get(run, "timeline")) {
		const cJSON *at = k8s_object_get(item, "atMilliseconds");
		struct span *span = &timeline->spans[timeline->count];

		if (timeline->count == SPANS_MAX || !cJSON_IsNumber(at))
			break;
		span->from_ms = at->valuedouble;
		span->who = k8s_object_text(item, "answeredBy");
		if (timeline->count > 0)
			span[-1].to_ms = span->from_ms;
		add_row(timeline, span->who);
		timeline->count++;
	}
	if (timeline->count == 0)
		return false;
	choose_window(timeline);
	if (timeline->spans[timeline->count - 1].to_ms < timeline->to_ms)
		timeline->spans[timeline->count - 1].to_ms = timeline->to_ms;
	return true;
}

/* --- text --- */

static void print_row(FILE *file, const struct timeline *timeline, const char *who)
{
	double step_ms = (timeline->to_ms - timeline->from_ms) / COLUMNS;

	fprintf(file, "  %-16.16s ", label(who));
	for (unsigned column = 0; column < COLUMNS; column++) {
		double from_ms = timeline->from_ms + column * step_ms;
		bool there = false;

		for (unsigned i = 0; i < timeline->count; i++)
			there |= strcmp(timeline->spans[i].who, who) == 0 &&
				 timeline->spans[i].from_ms < from_ms + step_ms &&
				 timeline->spans[i].to_ms > from_ms;
		fputc(!there ? ' ' : *who ? '=' : 'x', file);
	}
	fputc('\n', file);
}

void timeline_print(FILE *file, const cJSON *run)
{
	struct timeline timeline;
	char left[32], right[32];

	if (!read_timeline(run, &timeline))
		return;
	fputc('\n', file);
	for (unsigned i = 0; i < timeline.row_count; i++)
		print_row(file, &timeline, timeline.rows[i]);
	snprintf(left, sizeof left, "%.0f ms", timeline.from_ms);
	snprintf(right, sizeof right, "%.0f ms", timeline.to_ms);
	fprintf(file, "  %-16s %-*s%s\n\n", "", (int)(COLUMNS - strlen(right)), left, right);
	for (unsigned i = 0; i < timeline.count; i++) {
		const struct span *span = &timeline.spans[i];

		fprintf(file, "  %10.1f ms  %s", span->from_ms, label(span->who));
		if (i + 1 < timeline.count && (!*span->who || strcmp(span->who, "*") == 0))
			fprintf(file, ", for %.1f ms", span->to_ms - span->from_ms);
		fputc('\n', file);
	}
}

/* --- picture --- */

/* Names come from the API: they are data. */
static void put_text(FILE *file, double x, double y, const char *more, const char *text)
{
	fprintf(file, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, more);
	for (; *text; text++)
		switch (*text) {
		case '<':
			fputs("&lt;", file);
			break;
		case '>':
			fputs("&gt;", file);
			break;
		case '&':
			fputs("&amp;", file);
			break;
		default:
			fputc(*text, file);
		}
	fputs("</text>\n", file);
}

static double x_of(const struct timeline *timeline, double at_ms)
{
	double part = (at_ms - timeline->from_ms) / (timeline->to_ms - timeline->from_ms);

	return LEFT + WIDTH * (part < 0 ? 0 : part > 1 ? 1 : part);
}

static double y_of(const struct timeline *timeline, const char *who)
{
	unsigned row = 0;

	while (row + 1 < timeline->row_count && strcmp(timeline->rows[row], who) != 0)
		row++;
	return TOP + row * ROW_HEIGHT;
}

static void draw_span(FILE *file, const struct timeline *timeline, const struct span *span,
		      bool is_last)
{
	const char *colour = !*span->who                   ? "#c0392b"
			     : strcmp(span->who, "*") == 0 ? "#e67e22"
							   : "#2e7d32";
	double x = x_of(timeline, span->from_ms), y = y_of(timeline, span->who);
	char length[32];

	fprintf(file, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"20\" fill=\"%s\"/>\n", x,
		y, x_of(timeline, span->to_ms) - x, colour);
	if (is_last || (*span->who && strcmp(span->who, "*") != 0))
		return;
	snprintf(length, sizeof length, "%.1f ms", span->to_ms - span->from_ms);
	put_text(file, x_of(timeline, span->to_ms) + 6, y + 15, "", length);
}

static void draw_axis(FILE *file, const struct timeline *timeline)
{
	double y = TOP + timeline->row_count * ROW_HEIGHT;

	fprintf(file, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#777\"/>\n", LEFT,
		y, LEFT + WIDTH, y);
	for (unsigned i = 0; i <= 4; i++) {
		double at_ms = timeline->from_ms + (timeline->to_ms - timeline->from_ms) * i / 4;
		char text[32];

		snprintf(text, sizeof text, "%.0f ms", at_ms);
		put_text(file, x_of(timeline, at_ms), y + 18,
			 " text-anchor=\"middle\" fill=\"#555\"", text);
	}
}

void timeline_draw(FILE *file, const cJSON *run, const char *title)
{
	struct timeline timeline;
	bool some = read_timeline(run, &timeline);

	fprintf(file,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
		"font-family=\"sans-serif\" font-size=\"13\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		LEFT + WIDTH + 60, TOP + timeline.row_count * ROW_HEIGHT + 40);
	put_text(file, 16, 26, " font-size=\"15\" font-weight=\"bold\"", title);
	put_text(file, 16, 46, " fill=\"#555\"",
		 some ? k8s_object_text(run, "message") : "nothing was recorded");
	for (unsigned i = 0; i < timeline.row_count; i++)
		put_text(file, LEFT - 12, y_of(&timeline, timeline.rows[i]) + 15,
			 " text-anchor=\"end\"", label(timeline.rows[i]));
	for (unsigned i = 0; i < timeline.count; i++)
		draw_span(file, &timeline, &timeline.spans[i], i + 1 == timeline.count);
	if (some)
		draw_axis(file, &timeline);
	fputs("</svg>\n", file);
}
